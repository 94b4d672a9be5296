"""Convert and verify every model of mmsegmentation's index with PSPNet's head, each with stand-in weights.

Each model gets random weights with its keys and shapes (make_standin_checkpoint.py), in the checkpoint's file format,
and the card that is derived from the index. It goes through all stages of `pspnet-convert run`, and its row is printed.
Its card is compared with mmsegmentation's own data set, test pipeline, data preprocessor and metric (card_check.py).
`--json FILE` keeps the results; a model that has passed there is not run again:

    python scripts/check_catalog.py --json catalog.json --markdown scripts/check_catalog.md

`--cards-only` compares the cards alone, which takes a minute or two. The exit code is 1 if a model fails.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pspnet_convert as pc
from pspnet_convert.cards.card import load_card
from pspnet_convert.cards.derived_card import derived_card
from pspnet_convert.cards.model_index import Published, published
from pspnet_convert.errors import ConvertError, first_line
from pspnet_convert.files import write_json, write_text
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.manifest_fields import VerifyResult
from pspnet_convert.package_versions import versions

STAGES = ("export-onnx", "to-ir", "verify")
MODELS = ("ONNX", "IR FP32", "IR FP16")
SMALL = (97, 129)  # no multiple of anything
UNET_STEP = 16  # pixels: UNet halves its maps four times, so that sides must be multiples of this
CALIBRATED_AT = 96  # pixels; random weights need no more
WIDTHS = (61, 11, 9, 8, 8, 8, 9, 9, 9, 5)
HEADINGS = ("model", "backbone", "input", "export s", "to-ir s", "verify s", "ONNX", "IR FP32", "IR FP16", "card")


@dataclass(frozen=True)
class Checked:
    """A model's result. `shape`: height and width; `seconds`: by stage; `errors`: the logits' relative rms error, by
    converted model; `verdict`: pass, mismatch or inconclusive, or what went wrong. `card`: pass, or the first fault."""

    name: str
    backbone: str
    shape: tuple[int, int]
    seconds: dict[str, float]
    errors: dict[str, float | None]
    verdict: str
    card: str = "unchecked"

    @property
    def passed(self) -> bool:
        return self.verdict == self.card == "pass"

    @property
    def words(self) -> str:
        return self.verdict if self.card == "pass" else f"{self.verdict}; card: {self.card}"


def check(model: Published, size: tuple[int, int] | None, folder: Path) -> Checked:
    """Take `model` through all stages, in a temporary folder in `folder`, at `size` (None: its crop size)."""
    height, width = size or model.crop_size
    if "UNet" in model.backbone:
        height, width = (max(UNET_STEP, side // UNET_STEP * UNET_STEP) for side in (height, width))
    seconds: dict[str, float] = {}
    errors: dict[str, float | None] = {}
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="catalog-") as temporary:
            verdict = _convert(model, (1, 3, height, width), Path(temporary), seconds, errors)
    except ConvertError as error:
        verdict = f"{type(error).__name__}: {error.what}"
    except Exception as error:  # go on with the other models
        verdict = f"unexpected {type(error).__name__}: {first_line(error)}"
    seconds["all"] = round(time.monotonic() - started, 1)
    gc.collect()
    return Checked(model.name, model.backbone, (height, width), seconds, errors, verdict, check_card(model))


def check_card(model: Published) -> str:
    """Whether the model's card says what mmsegmentation does: pass, or the first fault."""
    from card_check import card_faults

    try:
        return next(iter(card_faults(derived_card(model))), "pass")
    except Exception as error:  # go on with the other models
        return f"{type(error).__name__}: {first_line(error)}"


def check_cards(models: Sequence[Published]) -> bool:
    """Print a line for each card; whether all pass."""
    passed = 0
    for model in models:
        verdict = check_card(model)
        passed += verdict == "pass"
        print(f"{model.name:{WIDTHS[0]}} {verdict}", flush=True)
    print(f"{passed} of {len(models)} cards agree with mmsegmentation")
    return passed == len(models)


def _convert(
    model: Published,
    shape: ImageShape,
    folder: Path,
    seconds: dict[str, float],
    errors: dict[str, float | None],
) -> str:
    """Run all stages and fill in `seconds` and `errors`; returns the verdict."""
    from make_standin_checkpoint import make_standin

    card = load_card(make_standin(derived_card(model), folder / "standin", side=CALIBRATED_AT))
    stages = pc.run(card, output_dir=folder, input_shape=shape).stages
    seconds.update((name, outcome.seconds) for name, outcome in stages.items())
    result = stages["verify"].result
    errors.update((row.backend, (row.from_reference or row.relative_error).rms) for row in result.comparisons)
    return _verdict(result)


def _verdict(result: VerifyResult) -> str:
    """The verdict, and if it is not a pass the first reason."""
    faults = [
        f"{row.backend}: {check.name}: {fault}"
        for row in result.comparisons
        for check in row.checks
        for fault in check.faults
    ]
    if result.preprocessing is not None:
        faults += [f"{result.preprocessing.name}: {fault}" for fault in result.preprocessing.faults]
    reason = next(iter([*faults, *result.doubts]), "")
    return result.verdict + (f": {reason}" if reason else "")


def check_all(
    models: Sequence[Published], size: tuple[int, int] | None, folder: Path, known: dict[str, Checked]
) -> Iterator[Checked]:
    """The result of each of `models` in turn; those in `known` are not run again."""
    for model in models:
        before = known.get(model.name)
        yield before if before is not None else check(model, size, folder)


def cells(row: Checked) -> list[str]:
    """A model's row of the table, in the order of HEADINGS."""
    seconds = [f"{row.seconds[stage]:.1f}" if stage in row.seconds else "-" for stage in STAGES]
    errors = (row.errors.get(model) for model in MODELS)
    return [
        row.name,
        row.backbone,
        "x".join(map(str, row.shape)),
        *seconds,
        *("-" if error is None else f"{error:.1e}" for error in errors),
        "pass" if row.card == "pass" else "FAIL",
    ]


def line(words: Sequence[str], verdict: str) -> str:
    left, right = words[:3], words[3:]
    parts = [f"{word:{width}}" for word, width in zip(left, WIDTHS)]
    parts += [f"{word:>{width}}" for word, width in zip(right, WIDTHS[3:])]
    return " ".join([*parts, "", verdict])


def markdown(rows: Sequence[Checked], models: Sequence[Published]) -> str:
    """The reference page: the catalog, and each model's result."""
    by_name = {model.name: model for model in models}
    lines = [
        "# The catalog, checked",
        "",
        f"Written by `python scripts/check_catalog.py --markdown`, which took {len(rows)} of the {len(models)} models",
        "with PSPNet's head in mmsegmentation's index through all stages of `pspnet-convert run`, with random weights",
        "instead of their checkpoints'. The models' columns come from verification: the relative rms error of the",
        "logits against the PyTorch reference. `card`: whether test pipeline, data preprocessor, labels, files and",
        "metric are those of mmsegmentation's own objects. The published figure is mmsegmentation's, for the real",
        "checkpoint. The seconds depend on the machine and on its other load.",
        "",
        f"With {', '.join(f'{tool} {version}' for tool, version in tools().items())}.",
        "",
        "| model | dataset | backbone | input | published | sha256 | " + " | ".join(HEADINGS[3:]) + " | verdict |",
        "| --- | --- | --- | --- | --- | --- |" + " ---: |" * len(HEADINGS[3:]) + " --- |",
    ]
    for row in rows:
        model = by_name[row.name]
        name, backbone, size, *rest = cells(row)
        metric, value = next(iter(model.metrics.items()))
        known = [f"`{name}`", model.dataset, backbone, size, f"{metric} {value}", model.digest_prefix or ""]
        lines.append(f"| {' | '.join([*known, *rest])} | {row.words} |")
    return "\n".join([*lines, "", summary(rows), ""])


def summary(rows: Sequence[Checked]) -> str:
    return f"{sum(row.passed for row in rows)} of {len(rows)} convert and verify"


def tools() -> dict[str, str]:
    """The versions of the packages on which the results depend."""
    return versions("torch", "mmseg", "onnxruntime", "openvino", "openvino-dev")


def read_results(path: Path | None, size: tuple[int, int] | None) -> dict[str, Checked]:
    """The models that passed in an earlier run at the same size and with the same tools, by name."""
    if path is None or not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["size"] != (list(size) if size else None):
        raise SystemExit(f"{path}: its results are of another size; name another file")
    if content["tools"] != tools():
        raise SystemExit(f"{path}: its results are of other tools ({content['tools']}); name another file")
    rows = [Checked(**{**row, "shape": tuple(row["shape"])}) for row in content["models"]]
    return {row.name: row for row in rows if row.passed}


def chosen(models: Sequence[Published], names: Sequence[str]) -> list[Published]:
    """The models with these names; all if none are given."""
    unknown = sorted(set(names) - {model.name for model in models})
    if unknown:
        raise SystemExit(f"no model named {unknown[0]!r}; `pspnet-convert list` shows all")
    return [model for model in models if not names or model.name in names]


def side_pair(text: str) -> tuple[int, int]:
    height, width = map(int, text.split(","))
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these models (default: all)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--input-shape", type=side_pair, metavar="H,W", help="instead of each model's crop size")
    size.add_argument("--small", dest="input_shape", action="store_const", const=SMALL, help="97,129: a quick look")
    parser.add_argument("-o", "--output", type=Path, help="where each model's temporary folder is made")
    parser.add_argument("--cards-only", action="store_true", help="compare the cards, and convert nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results here, and skip what passed")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the reference page")
    arguments = parser.parse_args()
    models = published()
    asked = chosen(models, arguments.names)
    if arguments.cards_only:
        sys.exit(0 if check_cards(asked) else 1)
    known = read_results(arguments.json, arguments.input_shape)
    rows: list[Checked] = []
    print(line(HEADINGS, "verdict"), flush=True)
    for row in check_all(asked, arguments.input_shape, arguments.output, known):
        rows.append(row)
        print(line(cells(row), row.words), flush=True)
        if arguments.json:
            known[row.name] = row
            results = [asdict(one) for one in known.values()]
            write_json(arguments.json, {"size": arguments.input_shape, "tools": tools(), "models": results})
    if arguments.markdown:
        write_text(arguments.markdown, markdown(rows, models))
    print(summary(rows))
    sys.exit(0 if all(row.passed for row in rows) else 1)


if __name__ == "__main__":
    main()
