"""Train the demo model, a small PSPNet that finds handwritten digits on photographs, on a CPU in minutes.

Writes pspnet_convert/data/demo: the validation set, the checkpoint, and the card with the figures measured here.
demo_data.py draws the training images. A run is seeded; another machine or torch release rounds differently, and gets
another checkpoint of about the same accuracy.

    python scripts/train_demo.py               # train, then write everything
    python scripts/train_demo.py --evaluate    # measure what is shipped, and compare with its card
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_data import SIDE, VOID, draw_training_batch, load_supply, write_validation_set
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from pspnet_convert.cards.card import Input, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.evaluate.chunks import Chunk, ChunkSettings, Tally, run_locally
from pspnet_convert.commands.evaluate.dataset import find_data
from pspnet_convert.commands.evaluate.figures import evaluation
from pspnet_convert.commands.evaluate.labelling import PYTORCH
from pspnet_convert.commands.evaluate.meaning import meaning_of
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.manifest_fields import Score
from pspnet_convert.pytorch.network import PSPNet, build_segmentor
from pspnet_convert.runtimes.model_file import ModelFile

DEMO = Path(__file__).resolve().parent.parent / "pspnet_convert" / "data" / "demo"
CONFIG = "pspnet/pspnet_r18-d8_4xb4-80k_potsdam-512x512.py"
OVERRIDES = {
    "model.backbone.base_channels": 16,
    "model.backbone.stem_channels": 16,
    "model.decode_head.in_channels": 128,
    "model.decode_head.channels": 48,
    "model.decode_head.num_classes": 11,
}
CLASSES: dict[str, tuple[int, int, int]] = {
    "background": (0, 0, 0),
    "zero": (230, 25, 75),
    "one": (60, 180, 75),
    "two": (255, 225, 25),
    "three": (0, 130, 200),
    "four": (245, 130, 48),
    "five": (145, 30, 180),
    "six": (70, 240, 240),
    "seven": (240, 50, 230),
    "eight": (170, 110, 40),
    "nine": (250, 190, 212),
}
BATCH = 8
PEAK_LEARNING_RATE = 2e-3
VALIDATION_IMAGES = 40
VALIDATION_SEED = 2012
TOLERANCE = 0.05  # of mIoU, in per cent: for the rounding of other processors

CARD = """\
# Written by scripts/train_demo.py, with the figures: change it there.
name: demo
description: >-
  A small PSPNet with a ResNetV1c-18-D8 backbone of a quarter of the usual width, trained from scratch by
  scripts/train_demo.py: for every pixel, one of ten handwritten digits or background.
task_type: semantic_segmentation
framework: pytorch
references:
  - https://arxiv.org/abs/1612.01105
  - https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits

files:
  - name: demo.pth
    size: {size}
    sha256: {sha256}
    sha384: {sha384}
    sources:
      - demo.pth

# A file name below mmsegmentation's `configs` folder.
config: {config}
config_overrides:
{overrides}

# The input of the PyTorch and ONNX models. The IR takes images of the same shape, plain BGR, 0..255.
input:
  name: input.1
  shape: [1, 3, {side}, {side}]
  layout: NCHW
  color_order: RGB
  mean: {mean}
  scale: {scale}
  converted_color_order: BGR

output:
  name: segmentation_map
  shape: [1, 1, {side}, {side}]
  layout: NCHW
  values: [0, {last_class}]

classes:
{classes}

# The class that stays unpainted over a picture.
background: background

# What the numbers in annotations mean, and where the data set keeps its files.
annotations:
  image_folder: JPEGImages
  annotation_folder: SegmentationClass
  image_suffix: .jpg
  annotation_suffix: .png
  list_file: ImageSets/Segmentation/val.txt

# mmsegmentation's evaluation: test pipeline, data preprocessor, test mode and metric.
testing:
  pipeline:
    - {{type: LoadImageFromFile}}
    - {{type: Resize, scale: [{long_side}, {side}], keep_ratio: true}}
    - {{type: LoadAnnotations}}
    - {{type: PackSegInputs}}
  preprocessor:
    mean: {mean}
    std: {scale}
    bgr_to_rgb: true
  mode: whole
  metrics: [mIoU]

gflops: {gflops:.4f}   # of the convolutions, at the input's shape; a multiply-add counts as two
mparams: {mparams:.4f}  # of the convolutions, BatchNorm folded into them: weights and one bias a channel

accuracy:
  - metric: mean_iou
    value: {mean_iou:.2f}
    dataset: demo/voc ({images} images)
    protocol: mmseg
    measured_by: PyTorch model, scripts/train_demo.py --evaluate
    description: the images as they are ({side}x{side}); the digits' outlines, labelled {void}, do not count

dataset: voc

license:
  name: CC-BY-4.0 (trained on the UCI digits)
  url: https://creativecommons.org/licenses/by/4.0/
"""


def build() -> PSPNet:
    segmentor = build_segmentor(CONFIG, OVERRIDES)
    return PSPNet(segmentor)


def normalise(images: NDArray[np.uint8], input_: Input) -> Tensor:
    """RGB uint8 [N, H, W, 3] to what the network takes, float32 [N, 3, H, W]."""
    scaled = (images.astype(np.float32) - np.array(input_.mean, np.float32)) / np.array(input_.scale, np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def batches(seed: int, input_: Input) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless training batches: images as `normalise` gives them, labels int64 [N, H, W]."""
    rng = np.random.default_rng(seed)
    supply = load_supply("train")
    while True:
        images, labels = draw_training_batch(supply, BATCH, rng)
        yield normalise(images, input_), torch.from_numpy(labels).long()


def train(iterations: int, seed: int, input_: Input) -> PSPNet:
    """A trained network in eval mode: the weights' moving average, with BatchNorm statistics taken for it."""
    torch.manual_seed(seed)
    network = build().train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a sixth faster on a CPU
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, iterations, pct_start=0.15)
    stream = batches(seed, input_)
    started, total = time.monotonic(), 0.0
    for iteration in range(1, iterations + 1):
        images, labels = next(stream)
        loss = cross_entropy(network(images), labels, ignore_index=VOID)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        total += loss.item()
        if iteration % 25 == 0 or iteration == iterations:
            seconds = time.monotonic() - started
            mean_loss = total / (iteration % 25 or 25)
            print(f"{iteration:5} of {iterations}  loss {mean_loss:.4f}  {seconds:4.0f} s", flush=True)
            total = 0.0
    # The averaged weights never saw a batch: until this, BatchNorm's statistics are those of other weights.
    update_bn((next(stream)[0] for _ in range(30)), averaged)
    network.load_state_dict(averaged.module.state_dict())
    return network.eval()


def save_checkpoint(network: PSPNet, path: Path) -> None:
    """In mmsegmentation's layout and torch's zip format; the same weights give the same bytes."""
    import mmseg

    meta = {
        "CLASSES": list(CLASSES),
        "PALETTE": [list(colour) for colour in CLASSES.values()],
        "mmseg_version": mmseg.__version__,
        "config": CONFIG,
    }
    state = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    torch.save({"meta": meta, "state_dict": state}, path)


def load_network(path: Path) -> PSPNet:
    network = build()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    return network.eval()


def measure(checkpoint: Path) -> Score:
    """The checkpoint's score on the demo's images, as `pspnet-convert evaluate --protocol mmseg` measures it."""
    card = load_card(DEMO / "model.yml")
    data = find_data(EvaluateOptions(), card)
    settings = ChunkSettings(card, meaning_of(EvaluateOptions(), card, data), card.input.shape, "mmseg", skip_bad=False)
    entries = data.entries
    total = Tally()
    for _, tally in run_locally(
        settings, [Chunk(entries, [ModelFile(PYTORCH, checkpoint)])], lambda images, tally: None
    ):
        total.add(tally)
    (score,) = evaluation(settings, len(entries), len(entries), total, {}).scores
    return score


def count_work(network: PSPNet) -> tuple[float, float]:
    """(GFLOPs at the input's shape, millions of parameters), as the card's comments define them."""
    operations = parameters = 0

    def count(conv: nn.Conv2d, _: Any, output: Tensor) -> None:
        nonlocal operations, parameters
        operations += 2 * conv.weight.numel() * output.shape[2] * output.shape[3]
        parameters += conv.weight.numel() + conv.out_channels

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, SIDE, SIDE))
    for hook in hooks:
        hook.remove()
    return operations / 1e9, parameters / 1e6


def write_card(network: PSPNet, mean_iou: float, input_: Input) -> None:
    content = (DEMO / "demo.pth").read_bytes()
    gflops, mparams = count_work(network)
    text = CARD.format(
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        sha384=hashlib.sha384(content).hexdigest(),
        config=CONFIG,
        overrides="\n".join(f"  {key}: {value}" for key, value in OVERRIDES.items()),
        side=SIDE,
        long_side=4 * SIDE,
        mean=list(input_.mean),
        scale=list(input_.scale),
        last_class=len(CLASSES) - 1,
        classes="\n".join(f"  - {{name: {name}, color: {list(colour)}}}" for name, colour in CLASSES.items()),
        gflops=gflops,
        mparams=mparams,
        mean_iou=mean_iou,
        images=VALIDATION_IMAGES,
        void=VOID,
    )
    (DEMO / "model.yml").write_text(text, encoding="utf-8")


def make(iterations: int, seed: int) -> None:
    """Make everything in DEMO except the dataset's README."""
    input_ = find_card().input  # the demo has the big model's normalisation
    write_validation_set(DEMO / "voc", VALIDATION_IMAGES, VALIDATION_SEED, list(CLASSES.values()))
    save_checkpoint(train(iterations, seed, input_), DEMO / "demo.pth")
    network = load_network(DEMO / "demo.pth")
    write_card(network, 0.0, input_)  # measure() reads the classes in it
    score = measure(DEMO / "demo.pth")
    write_card(network, score.mean_iou, input_)
    report(score)


def evaluate() -> bool:
    """Whether the shipped checkpoint has, on the shipped set, the accuracy that its card states."""
    card = load_card(DEMO / "model.yml")
    score = measure(DEMO / card.checkpoint.name)
    report(score)
    stated = card.accuracy[0].value
    same = abs(stated - score.mean_iou) <= TOLERANCE
    print(f"card        {stated:6.2f}  {'the same' if same else f'differs by more than {TOLERANCE}'}")
    return same


def report(score: Score) -> None:
    for name, iou in score.ious.items():
        print(f"{name:10}  {iou:6.2f}")
    print(f"mean IoU    {score.mean_iou:6.2f} %")


def main() -> None:
    keep_layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_layout)
    parser.add_argument("--evaluate", action="store_true", help="measure what is shipped, train nothing")
    parser.add_argument("--iterations", type=int, default=1500, help="training steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.evaluate:
        sys.exit(0 if evaluate() else 1)
    make(arguments.iterations, arguments.seed)


if __name__ == "__main__":
    main()
