"""Segment a folder of pictures as one job: python segment_folder.py MODEL.xml PICTURES LABELS

Needs openvino, numpy and Pillow. Several requests run at once, each with as many pictures as the model's batch has.
LABELS gets the label map of PICTURES/a/b.jpg as a/b.jpg.png, with the model's size. What is there already is left out,
so a job that was interrupted goes on. A damaged picture is reported, and the exit code is then 1.
"""

import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import openvino
from openvino.preprocess import PrePostProcessor
from PIL import Image

Picture = tuple[Path, np.ndarray]  # the label map's path; bytes [H, W, 3], blue, green, red


def read_model(xml: str) -> openvino.Model:
    """The model with an input of bytes [N, H, W, 3], whatever the IR's own is, and an N that is a number."""
    model = openvino.Core().read_model(xml)
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    model = steps.build()
    if model.input().partial_shape[0].is_dynamic:
        openvino.set_batch(model, 1)
    return model


def options_of(model: openvino.Model) -> dict[str, str]:
    hint = ["runtime_options", "INFERENCE_PRECISION_HINT"]  # f32 in an IR that `to-ir --winograd` made
    precision = {hint[1]: model.get_rt_info(hint).astype(str)} if model.has_rt_info(hint) else {}
    return {"PERFORMANCE_HINT": "THROUGHPUT", **precision}


def pictures(folder: Path, target: Path, height: int, width: int, failed: list[Path]) -> Iterator[Picture]:
    """The pictures in `folder` that have no label map yet, stretched to the model's size."""
    known = Image.registered_extensions()
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in known):
        labels = target / path.relative_to(folder).with_name(f"{path.name}.png")
        if labels.exists():
            continue
        try:
            rgb = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a damaged PNG
            print(f"{path}: {error}", file=sys.stderr)
            failed.append(path)
            continue
        yield labels, np.asarray(rgb)[:, :, ::-1]


def save(path: Path, labels: np.ndarray) -> None:
    """Under another name first: an interrupted job leaves no half of a file under this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    Image.fromarray(labels.astype(np.uint8)).save(part, "PNG")
    part.replace(path)


def label_maps(compiled: openvino.CompiledModel, waiting: Iterator[Picture]) -> Iterator[tuple[Path, np.ndarray]]:
    """The path of each label map, and the map, of the model's size. Several requests run at once."""
    (label_map,) = (output for output in compiled.outputs if output.element_type.is_integral())
    batch = compiled.input().shape[0]
    free = [compiled.create_infer_request() for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))]
    running: deque[tuple[list[Path], openvino.InferRequest]] = deque()

    def finished() -> Iterator[tuple[Path, np.ndarray]]:
        paths, request = running.popleft()
        request.wait()
        yield from zip(paths, request.get_tensor(label_map).data[:, 0])  # without the repeated pictures
        free.append(request)

    while group := list(islice(waiting, batch)):
        if not free:
            yield from finished()
        images = [image for _, image in group]
        request = free.pop()
        request.start_async({0: np.stack(images + [images[-1]] * (batch - len(group)))})
        running.append(([path for path, _ in group], request))
    while running:
        yield from finished()


def main(xml: str, source: Path, target: Path) -> int:
    model = read_model(xml)
    compiled = openvino.compile_model(model, "CPU", options_of(model))
    _, height, width, _ = compiled.input().shape
    failed: list[Path] = []
    count = 0
    for path, labels in label_maps(compiled, pictures(source, target, height, width, failed)):
        save(path, labels)
        count += 1
    print(f"{count} pictures segmented, {len(failed)} damaged")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
