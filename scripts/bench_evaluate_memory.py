"""Check that an evaluation's memory does not grow with the data set: 2,000 small images, the demo on every backend.

    python scripts/bench_evaluate_memory.py

Draws the images into a temporary folder, evaluates PyTorch, ONNX and IR in one pass, and prints the process's
resident memory now and then. Exit code 1 if it grows by more than 5 % after the first 100 images. Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from demo_data import save_annotation
from PIL import Image

import pspnet_convert as pc
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.commands.evaluate.stage import evaluate_stage
from pspnet_convert.job import open_job
from pspnet_convert.job_options import JobOptions
from pspnet_convert.progress import Silent

WARM_UP = 100  # images
ALLOWED = 1.05
SHOWN = 10  # lines


def draw(folder: Path, card: ModelCard, count: int) -> None:
    """`count` JPEGs of many sizes, with annotations, in Pascal VOC's layout."""
    images, annotations, lists = (
        folder / name for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    )
    for part in (images, annotations, lists):
        part.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        height, width = rng.integers(100, 400, 2)
        cells = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((width, height)).save(images / f"{number:05}.jpg")
        labels = rng.integers(0, len(card.classes), (height // 16 + 1, width // 16 + 1), dtype=np.uint8)
        spread = labels.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        save_annotation(spread, annotations / f"{number:05}.png", card.palette)
    (lists / "val.txt").write_text("".join(f"{number:05}\n" for number in range(count)), encoding="utf-8")


class Watch(Silent):
    """Notes the resident memory (MB) after each image."""

    def __init__(self) -> None:
        self.memory: list[float] = []

    def advance(self, units: int, state: str = "") -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.extend([pages * os.sysconf("SC_PAGE_SIZE") / 1e6] * units)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="(default: %(default)s)")
    count = parser.parse_args().images
    card, watch = find_card("demo"), Watch()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder / "voc", card, count)
        pc.run(card, output_dir=folder)
        with open_job(JobOptions(model=card, output_dir=folder), watch) as job:
            job.run(evaluate_stage(job, EvaluateOptions(folder / "voc", protocol="pad")))
    for number in range(WARM_UP - 1, count, max(1, (count - WARM_UP) // SHOWN)):
        print(f"after {number + 1:5} images  {watch.memory[number]:7.0f} MB")
    first, most = max(watch.memory[:WARM_UP]), max(watch.memory)
    print(f"at most {most / first:.3f} of the first {WARM_UP} images' memory, {ALLOWED} allowed")
    sys.exit(0 if most <= ALLOWED * first else 1)


if __name__ == "__main__":
    main()
