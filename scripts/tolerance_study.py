"""Measure how much of what verification allows is used by right conversions: the distribution behind its tolerances.

The networks are every model of mmsegmentation's index with PSPNet's head, with random weights, at a small image size;
and small networks with random weights, of random backbones, widths, norms, bins, means and scales, those of a ResNet-18
also of random image sizes. Each is converted as the tool does it. Bar: none uses more than half.

    python scripts/tolerance_study.py --json study.json --markdown scripts/tolerance_study.md

`--json FILE` keeps what was measured; a network that is there is not measured again. The shares are computed from it
anew, so that a factor in tolerances.py can be tried. The exit code is 1 if one uses more than half.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fault_catalogue import PRECISIONS, network_of, random_card, this_conversion
from faults import Fault, make
from make_standin_checkpoint import make_standin, write_card
from small_networks import BACKBONE, BN, BOTTLENECKS, NECK, RESNET, SIDE, drawn, model

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.cards.derived_card import derived_card
from pspnet_convert.cards.model_index import published
from pspnet_convert.cards.own_model import _plain
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.export_onnx.write_onnx import write_onnx
from pspnet_convert.commands.verify.candidates import candidates
from pspnet_convert.commands.verify.inputs import verification_inputs
from pspnet_convert.commands.verify.reference import expect
from pspnet_convert.commands.verify.sensitivity import FINE_FAULTS
from pspnet_convert.commands.verify.tolerances import Rounding, allowed
from pspnet_convert.errors import first_line
from pspnet_convert.files import write_json, write_text
from pspnet_convert.package_versions import versions
from pspnet_convert.pytorch.network import PSPNet, build_inline
from pspnet_convert.runtimes.logit_error import Error, error_of, worst
from pspnet_convert.runtimes.model_file import ModelFile

CATALOG_SIDE = 128  # pixels
BAR = 0.5
FP16_AS_ELSEWHERE = "FP16 from elsewhere"  # compared with the plain reference
FILES = ("ONNX", "IR FP32", "IR FP16", FP16_AS_ELSEWHERE)
# Right models that came near the limit, or over it, before the tolerances were measured.
HARD: Mapping[str, tuple[dict[str, Any], int]] = {
    "UNet of 8 channels": (model({"type": "UNet", "base_channels": 8}, 8, 4), 128),
    "UNet of 8 channels, large": (model({"type": "UNet", "base_channels": 8}, 8, 4), 512),
    "small MobileNetV2": (model({**BACKBONE["MobileNetV2"][0], "type": "MobileNetV2"}, 80, 3), 64),
    "small MobileNetV2, large": (model({**BACKBONE["MobileNetV2"][0], "type": "MobileNetV2"}, 80, 3), 512),
    "GroupNorm, large": (model({**RESNET, "norm_cfg": {"type": "GN", "num_groups": 4}}, 64, 3), 512),
    "InstanceNorm, large": (model({**RESNET, "norm_cfg": {"type": "IN"}}, 64, 3), 512),
    "MobileNetV3, large": (model({**BACKBONE["MobileNetV3"][0], "type": "MobileNetV3"}, 576, 2), 512),
    "BiSeNetV1, large": (model({**BACKBONE["BiSeNetV1"][0], "type": "BiSeNetV1"}, 32, 0), 512),
    "ResNet-18 of 8 channels, large": (model(RESNET, 64, 3), 512),
}


@dataclass(frozen=True)
class Measured:
    """What right conversions of a network were measured to be: rms and largest errors.

    `errors`: by file; the IR FP16's is against the reference with FP16 constants, None where there is none. `fine`: how
    far the least of the fine faults moves the logits.
    """

    name: str
    shape: Sequence[int]
    errors: Mapping[str, Sequence[float] | None]
    of_sums: Sequence[float]
    of_input: Sequence[float]
    of_weights: Sequence[float]
    fine: Sequence[float]

    def used(self, file: str) -> float | None:
        """The share of the error allowed: of rms or largest, the larger one."""
        error = self.errors.get(file)
        if error is None:
            return None
        rounding = Rounding(*(Error(*values) for values in (self.of_sums, self.of_input, self.of_weights)))
        limit = allowed("FP16" if file == FP16_AS_ELSEWHERE else "f32", rounding)
        return max(error[0] / limit.rms, error[1] / limit.largest)

    @property
    def hides_fine_faults(self) -> bool:
        """Whether a fine fault of an FP32 IR could pass."""
        limit = allowed("f32", Rounding(Error(*self.of_sums), Error(*self.of_input)))
        return Error(*self.fine).within(limit)


def measure(name: str, card: ModelCard, folder: Path) -> Measured:
    """Convert the card's network in `folder` and compare."""
    network = network_of(card)
    onnx_path = folder / "right.onnx"
    write_onnx(network, card, onnx_path, ExportOptions(card.input.shape), {"name": card.name})
    files = []
    for file, precision in PRECISIONS.items():
        place = folder / file
        place.mkdir()
        files.append(ModelFile(file, make(Fault("none", file), card, onnx_path, place), precision))  # type: ignore[arg-type]
    inputs = verification_inputs(card, card.input.shape)
    precisions = ("f32", "FP16", "f16")  # the last so that rounding of weights is measured for each
    expected = expect(network, card, inputs, folder, lambda: None, precisions, this_conversion())  # type: ignore[arg-type]
    errors: dict[str, Error | None] = dict.fromkeys(FILES)
    for candidate in candidates(files, card, card.input.shape):
        images = (entry.image for entry in inputs)
        for answer, found in zip(expected, candidate.model.open().run(images)):
            plain = error_of(found.logits, answer.prediction.logits)
            held_to: list[tuple[str, Error]] = [(candidate.name, plain)]
            if candidate.claims == "FP16":
                held_to = [(FP16_AS_ELSEWHERE, plain)]
                if answer.in_fp16 is not None:
                    held_to.append((candidate.name, error_of(found.logits, answer.in_fp16.logits)))
            for file, error in held_to:
                errors[file] = worst(error, errors[file] or error)
    rounding = expected[0].rounding
    fine = [error for one in expected for fault, error in one.sensitivity.items() if fault in FINE_FAULTS]
    return Measured(
        name,
        card.input.shape[2:],
        {file: None if error is None else _pair(error) for file, error in errors.items()},
        _pair(rounding.of_sums),
        _pair(rounding.of_input),
        _pair(rounding.of_weights or Error(0, 0)),
        _pair(worst(*fine)),
    )


def _pair(error: Error) -> list[float]:
    return [error.rms, error.largest]


# The networks


def networks(catalog: bool, count: int, seed: int) -> Iterator[tuple[str, Callable[[Path], ModelCard]]]:
    """Each network's name, and what makes its card and checkpoint in a folder."""
    for name, (section, side) in HARD.items():
        yield name, lambda folder, section=section, side=side: inline_card(section, (side, side), folder, seed=0)  # type: ignore[misc]
    for number in range(count):
        yield f"random {number}", lambda folder, number=number: random_network(seed + number, folder)  # type: ignore[misc]
    for entry in published() if catalog else ():
        yield entry.name, lambda folder, entry=entry: catalog_card(derived_card(entry), folder)  # type: ignore[misc]


def catalog_card(card: ModelCard, folder: Path) -> ModelCard:
    data = card.model_dump(mode="json", exclude_none=True)
    data["input"]["shape"][2:] = data["output"]["shape"][2:] = [CATALOG_SIDE] * 2
    data.pop("testing", None)
    return load_card(make_standin(ModelCard.model_validate(data), folder, side=96))


def random_network(seed: int, folder: Path) -> ModelCard:
    """A ResNet-18 as in fault_catalogue.py, or another backbone or neck, changed at random."""
    chance = random.Random(seed)
    if chance.random() < 0.25:
        return random_card(chance, folder, seed)
    return inline_card(random_section(chance), (SIDE, SIDE), folder, seed, chance)


def random_section(chance: random.Random) -> dict[str, Any]:
    """A config's `model` section."""
    kind = chance.choice(["ResNet", "bottlenecks", "GroupNorm", "UNet", "MobileNetV2", *BACKBONE, *NECK])
    width = chance.choice([4, 8, 16])
    if kind in ("ResNet", "GroupNorm"):
        norm = {"type": "GN", "num_groups": chance.choice([1, 2, 4])} if kind == "GroupNorm" else BN
        widths = {"base_channels": width, "stem_channels": width, "norm_cfg": norm}
        section = model({**RESNET, **widths, "type": chance.choice(["ResNet", "ResNetV1c", "ResNetV1d"])}, 8 * width, 3)
    elif kind == "bottlenecks":
        depth = chance.choice([50, 101])
        section = model({**BOTTLENECKS, "depth": depth, "base_channels": width, "stem_channels": width}, 32 * width, 3)
    elif kind == "UNet":
        section = model({"type": "UNet", "base_channels": width}, width, 4)
    elif kind in NECK:
        backbone, neck, *taken = NECK[kind]
        section = model(backbone, *taken, neck={"type": kind, **neck})
    else:
        backbone, *taken = BACKBONE[kind]
        section = model({**backbone, "type": kind}, *taken)
    head = section["decode_head"]
    head["channels"] = chance.choice([8, 16, 32])
    head["num_classes"] = chance.randint(2, 21)
    head["pool_scales"] = tuple(chance.sample(range(1, 9), chance.randint(1, 4)))
    head["align_corners"] = chance.random() < 0.2
    if chance.random() < 0.15:
        head["norm_cfg"] = {"type": "GN", "num_groups": chance.choice([1, 4])}
    return section


def inline_card(
    section: dict[str, Any], size: tuple[int, int], folder: Path, seed: int, chance: random.Random | None = None
) -> ModelCard:
    """The card of a `model` section with random weights, for images of this height and width."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "standin.pth"
    network = PSPNet(build_inline(section)).eval()
    with torch.no_grad():
        torch.save({"state_dict": drawn(network, min(size[0], 128)), "meta": {}}, path)
    data = find_card().model_dump(mode="json", exclude_none=True)
    classes = section["decode_head"]["num_classes"]
    for other in ("background", "config", "config_overrides", "testing"):
        data.pop(other, None)
    data.update(name="random", network=_plain(section), accuracy=[])
    data["classes"] = [{**data["classes"][number % 19], "name": f"class {number}"} for number in range(classes)]
    data["input"]["shape"] = [1, 3, *size]
    data["output"].update(shape=[1, 1, *size], values=[0, classes - 1])
    if chance is not None and chance.random() < 0.5:
        data["input"]["mean"] = [round(chance.uniform(90, 140), 3) for _ in range(3)]
        data["input"]["scale"] = [round(chance.uniform(50, 75), 3) for _ in range(3)]
        data["input"]["color_order"] = chance.choice(["RGB", "BGR"])
    return load_card(write_card(ModelCard.model_validate(data), path))


# The report


def table(rows: Sequence[Measured]) -> list[str]:
    """Markdown: for each file how the shares used are distributed, and the networks that use most."""
    lines = ["| file | networks | median | 90 % | largest | by |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for file in FILES:
        shares = sorted((share, row.name) for row in rows if (share := row.used(file)) is not None)
        if shares:
            values = [share for share, _ in shares]
            middle, most = np.quantile(values, [0.5, 0.9])
            lines.append(f"| {file} | {len(shares)} | {middle:.2f} | {most:.2f} | {values[-1]:.2f} | {shares[-1][1]} |")
    return lines


def each(rows: Sequence[Measured]) -> list[str]:
    """Markdown: a row a network, with its share of each file."""
    lines = ["| network | image | float32 costs | " + " | ".join(FILES) + " |", "| --- | --- | ---: |" + " ---: |" * 4]
    for row in rows:
        shares = (row.used(file) for file in FILES)
        words = " | ".join("-" if share is None else f"{share:.2f}" for share in shares)
        lines.append(f"| {row.name} | {'x'.join(map(str, row.shape))} | {row.of_sums[0]:.1e} | {words} |")
    return lines


def markdown(rows: Sequence[Measured]) -> str:
    tools = ", ".join(f"{tool} {version}" for tool, version in versions("torch", "onnxruntime", "openvino").items())
    return "\n".join(
        [
            "# How much of the tolerance right conversions use",
            "",
            "Written by `python scripts/tolerance_study.py --markdown`. A share of 1 is the largest error that",
            "verification allows; the bar is one half. `IR FP16` is compared with the reference with its constants in",
            f"FP16; `{FP16_AS_ELSEWHERE}` is the same file, compared with the plain reference. A dash: a network for",
            "which the first is not possible (pytorch/fp16.py says why).",
            "",
            f"With {tools}.",
            "",
            *table(rows),
            "",
            summary(rows),
            "",
            *each(rows),
            "",
        ]
    )


def summary(rows: Sequence[Measured]) -> str:
    hidden = sum(row.hides_fine_faults for row in rows)
    return (
        f"{len(rows) - len(over(rows))} of {len(rows)} networks use at most half. "
        f"{hidden} have a fine fault that an FP32 IR could hide."
    )


def over(rows: Sequence[Measured]) -> list[str]:
    return [row.name for row in rows if any((row.used(file) or 0) > BAR for file in FILES)]


def read(path: Path | None) -> dict[str, Measured]:
    if path is None or not path.is_file():
        return {}
    return {row["name"]: Measured(**row) for row in json.loads(path.read_text(encoding="utf-8"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=200, help="small networks (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-catalog", action="store_true", help="only the small networks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what is measured, and skip what is there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    arguments = parser.parse_args()
    os.environ["CI"] = "true"  # Model Optimizer's telemetry sends nothing then
    known, rows = read(arguments.json), []
    for name, card_of in networks(not arguments.no_catalog, arguments.random, arguments.seed):
        if name not in known:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    known[name] = measure(name, card_of(Path(folder) / "standin"), Path(folder))
                except Exception as error:  # go on with the others
                    print(f"{name}: {type(error).__name__}: {first_line(error)}", flush=True)
                    continue
            if arguments.json:
                write_json(arguments.json, [asdict(row) for row in known.values()])
        rows.append(known[name])
        print(each(rows[-1:])[-1], flush=True)
    print("\n".join([*table(rows), summary(rows)]))
    if arguments.markdown:
        write_text(arguments.markdown, markdown(rows))
    sys.exit(1 if over(rows) else 0)


if __name__ == "__main__":
    main()
