"""Check that Open Model Zoo's programs take this tool's IR unchanged, and give the same answers with it.

    python scripts/check_omz.py

Its accuracy_checker (openvino-dev 2023.3, the last) measures a stand-in for `pspnet-pytorch` with each of the two
configurations that Open Model Zoo has had for it, on pictures and annotations of many kinds: see `PICTURES`. Its mean
IoU must be that of `evaluate --protocol`, to ten decimals of a per cent. The part of the segmentation demo that runs a
model (openmodelzoo-modelapi) segments a picture; its label map must be the IR's. Both programs are installed into an
environment of their own with OpenVINO 2023.3, which also shows that an older runtime reads the IR.

The stand-in has the original's layers with fewer channels and random weights: the figures mean nothing, but a pixel
that is prepared or counted in another way changes them.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import openvino
import yaml
from demo_data import VOID, save_annotation
from make_standin_checkpoint import make_standin
from numpy.typing import NDArray
from PIL import Image

from pspnet_convert.cards.card import load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.runtimes.images import SAMPLES, resized_labels

# The last openvino-dev with the accuracy_checker. The modelapi's bounds on its dependencies fit no current Python.
PROGRAMS = (["openvino-dev==2023.3.0"], ["--no-deps", "openmodelzoo-modelapi==2022.3.0"])
# `crop` was Open Model Zoo's configuration until this release. Its wheel is read, not installed.
CROP_RELEASE = ("openvino-dev==2021.4.2", "--no-deps", "--only-binary=:all:", "--python-version=3.8", "--platform=any")
CONFIGURATION = "models/public/pspnet-pytorch/accuracy-check.yml"
NARROW = {
    "model.backbone.base_channels": 8,
    "model.backbone.stem_channels": 8,
    "model.decode_head.in_channels": 256,
    "model.decode_head.channels": 16,
    "model.auxiliary_head.in_channels": 128,
    "model.auxiliary_head.channels": 8,
}
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
Protocol = Literal["crop", "pad"]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A picture to make: its size, the kind of its file, and whether its annotation is a palette PNG or in colours.

    A picture that is `too_long` for `crop` is more than four times as long as wide; the accuracy_checker stops there.
    """

    height: int
    width: int
    file: Literal["jpg", "grey jpg", "turned jpg", "png", "png with alpha", "16-bit png"] = "jpg"
    annotation: Literal["palette", "colours"] = "palette"

    @property
    def too_long(self) -> bool:
        return int(512 * max(self.height, self.width) / min(self.height, self.width)) > 2048


PICTURES = (
    Picture(512, 512),
    Picture(375, 500),
    Picture(500, 375, annotation="colours"),
    Picture(333, 333, "grey jpg"),
    Picture(281, 500, "turned jpg", "colours"),
    Picture(233, 700, "png"),
    Picture(799, 200, "png with alpha", "colours"),
    Picture(366, 500, "16-bit png"),
    # Where a side's rounding shows: 512 / 49 * 49 is less than 512; 512 * 2053 / 513 is less than 2049.
    Picture(49, 196),
    Picture(112, 37, annotation="colours"),
    Picture(513, 2053),
    Picture(513, 511, "png"),
    Picture(1025, 1024, annotation="colours"),
    Picture(359, 90),
    Picture(1, 1, "png"),
    Picture(3, 2, annotation="colours"),
    Picture(5, 7),
    Picture(90, 361),
    Picture(1001, 130, annotation="colours"),
    Picture(2, 600, "png"),
)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = install(folder / "environment")
        configurations = find_configurations(theirs, folder)
        card, ir = convert(folder)
        voc = folder / "data" / "VOCdevkit" / "VOC2012"
        paths = make_data_set(card, voc, ir)
        checks = {"segmentation demo, label map": demo(theirs, ir, paths[0], folder)}
        for protocol, configuration in configurations.items():
            for what, chosen in subsets(protocol).items():
                names = "".join(f"{paths[number].stem}\n" for number in chosen)
                (voc / "ImageSets" / "Segmentation" / "val.txt").write_text(names, encoding="utf-8")
                figures = accuracy_checker(theirs, configuration, ir, folder), evaluate(card, protocol, folder)
                checks[f"accuracy_checker, {protocol}, mean IoU of {what}"] = figures
    for what, (found, expected) in checks.items():
        print(f"{what}: {found}, ours {expected}: {'the same' if found == expected else 'DIFFERENT'}")
    return 0 if all(found == expected for found, expected in checks.values()) else 1


def subsets(protocol: Protocol) -> dict[str, Sequence[int]]:
    """The pictures that are measured together, by number. In the few tiny ones, most classes do not occur."""
    fitting = [number for number, picture in enumerate(PICTURES) if protocol == "pad" or not picture.too_long]
    tiny = [number for number in fitting if max(PICTURES[number].height, PICTURES[number].width) < 8]
    return {f"{len(fitting)} pictures": fitting, f"the {len(tiny)} tiny ones": tiny}


def install(folder: Path) -> Path:
    """Make an environment with Open Model Zoo's programs; returns its bin folder."""
    print("installing Open Model Zoo's programs ...", file=sys.stderr)
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    for packages in PROGRAMS:
        run(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return programs


def find_configurations(theirs: Path, folder: Path) -> dict[Protocol, Path]:
    """Open Model Zoo's two configurations for the model, as they were published."""
    run(theirs / "python", "-m", "pip", "download", "--quiet", *CROP_RELEASE, "--dest", folder)
    (wheel,) = folder.glob("openvino_dev-*.whl")
    crop = folder / "crop.yml"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(CONFIGURATION))
        crop.write_bytes(archive.read(name))
    return {"crop": crop, "pad": zoo(theirs) / CONFIGURATION}


def zoo(theirs: Path) -> Path:
    return next((theirs.parent / "lib").glob("python*/site-packages/openvino/model_zoo"))


def convert(folder: Path) -> tuple[Path, Path]:
    """The card of a stand-in that has the model's name, and its FP32 IR."""
    whole = find_card()
    card = make_standin(whole.model_copy(update={"config_overrides": NARROW}), folder)
    data = yaml.safe_load(card.read_text(encoding="utf-8"))
    card.write_text(yaml.safe_dump({**data, "name": whole.name}, sort_keys=False), encoding="utf-8")
    ours("run", card, "-o", folder, "--precision", "FP32")
    return card, folder / "public" / whole.name / "FP32" / f"{whole.name}.xml"


def make_data_set(card: Path, folder: Path, ir: Path) -> list[Path]:
    """PICTURES in Pascal VOC's layout; returns the paths of the images."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    palette = load_card(card).palette
    random, paths = np.random.default_rng(0), []
    for number, picture in enumerate(PICTURES):
        suffix = ".jpg" if picture.file.endswith("jpg") else ".png"
        paths.append(folder / "JPEGImages" / f"2007_{number:06d}{suffix}")
        samples = sorted(SAMPLES.glob("*.jpg"))
        with Image.open(samples[number % len(samples)]) as sample:
            save_picture(sample.convert("RGB").resize((picture.width, picture.height)), picture, paths[-1])
        annotation = folder / "SegmentationClass" / f"{paths[-1].stem}.png"
        save_annotation(truth(answer(ir, paths[-1]), random), annotation, palette)
        if picture.annotation == "colours":
            Image.open(annotation).convert("RGB").save(annotation)
    return paths


def save_picture(image: Image.Image, picture: Picture, path: Path) -> None:
    match picture.file:
        case "jpg":
            image.save(path, quality=95)
        case "grey jpg":
            image.convert("L").save(path, quality=95)
        case "turned jpg":
            orientation = Image.Exif()
            orientation[0x0112] = 6  # to be turned right by whoever shows it
            image.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=orientation)
        case "png":
            image.save(path)
        case "png with alpha":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
            image.save(path)
        case "16-bit png":
            cv2.imwrite(str(path), np.asarray(image)[:, :, ::-1].astype(np.uint16) * 256 + 200)


def truth(found: Bytes, random: np.random.Generator) -> Bytes:
    """An annotation: the model's answer, partly painted over with blocks of a few classes, outlined with VOID."""
    rows, columns = found.shape
    classes = random.choice(21, 5, replace=False)
    blocks = np.kron(random.choice(classes, (3, 3)), np.ones((rows // 3 + 1, columns // 3 + 1)))[:rows, :columns]
    patches = np.kron(random.random((6, 6)) < 0.3, np.ones((rows // 6 + 1, columns // 6 + 1)))[:rows, :columns]
    labels = np.where(patches > 0, blocks, found).astype(np.uint8)
    outline = np.zeros(labels.shape, bool)
    outline[1:] |= labels[1:] != labels[:-1]
    outline[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return np.where(outline, np.uint8(VOID), labels)


def answer(ir: Path, picture: Path) -> Bytes:
    """The IR's label map of a picture, at the picture's size. The IR gets the picture stretched to its input."""
    model = openvino.Core().compile_model(str(ir), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = cv2.imread(str(picture))
    rows, columns = model.input(0).shape[2:]
    given = cv2.resize(image, (columns, rows)).transpose(2, 0, 1)[None].astype(np.float32)
    return resized_labels(model(given)[0][0, 0], *image.shape[:2])


def accuracy_checker(theirs: Path, configuration: Path, ir: Path, folder: Path) -> str:
    """The accuracy_checker's mean IoU in per cent. It prints two decimals; its CSV file has them all."""
    (folder / "f32.yml").write_text("INFERENCE_PRECISION_HINT: f32\n", encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=folder) as annotations:  # where it keeps what it has read
        table = Path(annotations) / "figures.csv"
        run(
            *(theirs / "accuracy_check", "--config", configuration, "--models", ir.parent, "--source", folder / "data"),
            *("--definitions", zoo(theirs) / "data/dataset_definitions.yml", "--annotations", annotations),
            *("--target_devices", "CPU", "--device_config", folder / "f32.yml", "--csv_result", table),
        )
        (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return f"{100 * float(row['metric_value']):.10f}"


def evaluate(card: Path, protocol: Protocol, folder: Path) -> str:
    printed = ours(
        *("evaluate", card, "-o", folder, "--dataset", folder / "data" / "VOCdevkit" / "VOC2012"),
        *("--protocol", protocol, "--backend", "FP32", "--json"),
    )
    (score,) = json.loads(printed)["result"]["scores"]
    return f"{score['mean_iou']:.10f}"


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
