"""Check that Open Model Zoo's programs take this tool's IR unchanged, and give the same answers with it.

    python scripts/check_omz.py

Its accuracy_checker (in openvino-dev up to 2023.3) runs with Open Model Zoo's configuration for `pspnet-pytorch` on a
full-size stand-in and a few pictures with annotations; its mean IoU must be `evaluate`'s. The part of the segmentation
demo that runs a model (openmodelzoo-modelapi) segments a picture; its label map must be the IR's. Both are installed
into a separate environment with OpenVINO 2023.3, which also shows that an older runtime reads the IR.

The accuracy_checker differs from `evaluate` in two ways: it counts a pixel of no class (255 in Pascal VOC) as
background, and it pads a BGR image with the mean colour in RGB order. The pictures avoid both: no pixel is 255, and
every picture is square.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import cv2
import numpy as np
import openvino
from make_standin_checkpoint import make_standin
from numpy.typing import NDArray
from PIL import Image

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.runtimes.images import SAMPLES

# The last openvino-dev with the accuracy_checker. The modelapi's bounds on its dependencies fit no current Python.
PROGRAMS = (["openvino-dev==2023.3.0"], ["--no-deps", "openmodelzoo-modelapi==2022.3.0"])
SIDES = (512, 375, 700, 333)
DEMO = """
import sys
import cv2
import numpy as np
from openvino.model_zoo.model_api.adapters import OpenvinoAdapter, create_core
from openvino.model_zoo.model_api.models import SegmentationModel
from openvino.model_zoo.model_api.pipelines import AsyncPipeline

ir, picture, answer = sys.argv[1:]
adapter = OpenvinoAdapter(create_core(), ir, plugin_config={"INFERENCE_PRECISION_HINT": "f32"}, max_num_requests=1)
pipeline = AsyncPipeline(SegmentationModel(adapter, preload=False))
pipeline.submit_data(cv2.imread(picture), 0, {})
pipeline.await_all()
np.save(answer, pipeline.get_result(0)[0])
"""


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = install(folder / "environment")
        card = find_card()
        ir = convert(card, folder)
        pictures = make_data_set(card, folder / "data" / "VOCdevkit" / "VOC2012", ir)
        checks = {
            "accuracy_checker, mean IoU": (accuracy_checker(theirs, ir, folder), evaluate(folder)),
            "segmentation demo, label map": demo(theirs, ir, pictures[0], folder),
        }
    for what, (found, expected) in checks.items():
        print(f"{what}: {found}, ours {expected}: {'the same' if found == expected else 'DIFFERENT'}")
    return 0 if all(found == expected for found, expected in checks.values()) else 1


def install(folder: Path) -> Path:
    """Make an environment with Open Model Zoo's programs; returns its bin folder."""
    print("installing Open Model Zoo's programs ...", file=sys.stderr)
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    for packages in PROGRAMS:
        run(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return programs


def convert(card: ModelCard, folder: Path) -> Path:
    """The FP32 IR of a stand-in, converted under the model's name and in its folder."""
    make_standin(card, folder)
    ours("run", "--checkpoint", folder / "standin.pth", "--allow-unknown-checkpoint", "-o", folder)
    return folder / "public" / card.name / "FP32" / f"{card.name}.xml"


def make_data_set(card: ModelCard, folder: Path, ir: Path) -> list[Path]:
    """Square pictures in Pascal VOC's layout, annotated with the IR's label maps, partly painted over."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    random, pictures = np.random.default_rng(0), []
    for number, side in enumerate(SIDES):
        samples = sorted(SAMPLES.glob("*.jpg"))
        pictures.append(folder / "JPEGImages" / f"2007_{number:06d}.jpg")
        with Image.open(samples[number % len(samples)]) as sample:
            sample.convert("RGB").resize((side, side)).rotate(90 * number).save(pictures[-1], quality=95)
        painted = np.kron(random.integers(0, 21, (3, 3)), np.ones((side // 3 + 1, side // 3 + 1)))[:side, :side]
        truth = np.where(random.random((side, side)) < 0.3, painted, answer(ir, pictures[-1])).astype(np.uint8)
        annotation = Image.fromarray(truth)
        annotation.putpalette(bytes(value for colour in card.palette for value in colour))
        annotation.save(folder / "SegmentationClass" / f"{pictures[-1].stem}.png")
    names = "".join(f"{path.stem}\n" for path in pictures)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text(names, encoding="utf-8")
    return pictures


def answer(ir: Path, picture: Path) -> NDArray[np.uint8]:
    """The IR's label map of a picture, at the picture's size. The IR gets the picture stretched to its input."""
    model = openvino.Core().compile_model(str(ir), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = cv2.imread(str(picture))
    rows, columns = model.input(0).shape[2:]
    given = cv2.resize(image, (columns, rows)).transpose(2, 0, 1)[None].astype(np.float32)
    labels = model(given)[0][0, 0].astype(np.uint8)
    return np.asarray(cv2.resize(labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST))


def accuracy_checker(theirs: Path, ir: Path, folder: Path) -> str:
    """The accuracy_checker's mean IoU in per cent, with two decimals as printed."""
    zoo = next((theirs.parent / "lib").glob("python*/site-packages/openvino/model_zoo"))
    (folder / "annotations").mkdir()
    (folder / "f32.yml").write_text("INFERENCE_PRECISION_HINT: f32\n", encoding="utf-8")
    output = run(
        *(theirs / "accuracy_check", "--config", zoo / "models/public/pspnet-pytorch/accuracy-check.yml"),
        *("--definitions", zoo / "data/dataset_definitions.yml", "--models", ir.parent, "--source", folder / "data"),
        *("--annotations", folder / "annotations", "--target_devices", "CPU", "--device_config", folder / "f32.yml"),
    )
    found = re.search(r"mean_iou: ([\d.]+)%", output)
    return found.group(1) if found else "no figure"


def evaluate(folder: Path) -> str:
    printed = ours(
        *("evaluate", "-o", folder, "--dataset", folder / "data" / "VOCdevkit" / "VOC2012", "--protocol", "pad"),
        *("--checkpoint", folder / "standin.pth", "--allow-unknown-checkpoint", "--backend", "FP32", "--json"),
    )
    (score,) = json.loads(printed)["result"]["scores"]
    return f"{score['mean_iou']:.2f}"


def demo(theirs: Path, ir: Path, picture: Path, folder: Path) -> tuple[str, str]:
    """How many pixels get the IR's label from the demo, and how many there are."""
    (folder / "demo.py").write_text(DEMO, encoding="utf-8")
    run(theirs / "python", folder / "demo.py", ir, picture, folder / "demo.npy")
    expected = answer(ir, picture)
    right = int((np.load(folder / "demo.npy") == expected).sum())
    return f"{right} pixels", f"{expected.size} pixels"


def ours(*arguments: object) -> str:
    return run(sys.executable, "-m", "pspnet_convert", *arguments)


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(str(part) for part in command)}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
