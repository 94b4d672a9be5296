"""Check that the IRs of this bundle are right on this machine: python selftest.py [--device GPU] [--json]

This file stands alone. It needs Python 3.9 or later with openvino, numpy and Pillow. It runs each IR on the golden
cases of `selftest.json` (images, and the PyTorch network's label maps), at f32 and at the precision that the device
prefers. A label may differ only where the network was undecided; `selftest.json` says how undecided, and why.

Exit codes: 0 pass, 2 wrong arguments, 9 an IR is wrong, 10 the golden cases prove nothing, 11 a file is missing or
unreadable or does not run, 14 a library or the device is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SETTINGS = "selftest.json"
VERSION = 1  # of the settings' form
PASS, MISMATCH, INCONCLUSIVE, UNREADABLE, MISSING = 0, 9, 10, 11, 14
VERDICTS = {PASS: "pass", MISMATCH: "mismatch", INCONCLUSIVE: "inconclusive"}

# Margins (a pixel's best logit minus its second best) are bytes in a grey PNG, as shares of the image's largest
# absolute logit. Byte 0 is a share below 2**-20; byte b a share of at least 2**((b - 1) / 12 - 20). So a byte is off by
# at most 6 %, and 255 stands for more than twice the largest logit, which no margin has.
LOWEST, STEPS = -20, 12

_HINT = "INFERENCE_PRECISION_HINT"
_OWN_HINT = ["runtime_options", _HINT]  # of an IR that is made for one precision
_PRECISIONS = ("f32", "bf16", "f16")
_SHOWN = 5  # pixels that are listed of an image
_VIRTUAL = ("AUTO", "HETERO", "MULTI", "BATCH")


class SelfTestError(Exception):
    """The self-test did not run; `code` is the exit code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True)
class Case:
    """A golden case. `image` is [H, W, C] as the IR takes it, `labels` and the bytes `margins` are uint8 [H, W]."""

    name: str
    image: np.ndarray
    labels: np.ndarray
    margins: np.ndarray


@dataclass
class Row:
    """What an IR gave at one precision. `places`: of each image with unexplained pixels, where they are.

    `most`: how many pixels may differ, at a coarse precision; None at the others.
    """

    file: str
    computed_in: str
    is_default: bool
    pixels: int = 0
    differing: int = 0
    unexplained: int = 0
    most: int | None = None
    places: list[dict[str, Any]] = field(default_factory=list)
    fault: str | None = None

    @property
    def agreement(self) -> float:
        """The share of pixels with the network's label, 0..1."""
        return 1 - self.differing / self.pixels if self.pixels else 0.0


def margin_bytes(margins: Any, largest: float) -> Any:
    """Margins (floats, in logits) as the bytes of a golden case. `largest`: the image's largest absolute logit."""
    import numpy as np

    shares = np.asarray(margins, np.float64) / largest if largest > 0 else np.zeros(np.shape(margins))
    with np.errstate(divide="ignore"):
        steps = np.floor((np.log2(shares) - LOWEST) * STEPS) + 1
    return np.clip(steps, 0, 255).astype(np.uint8)


def least_margins() -> Any:
    """The smallest share that each of the 256 bytes stands for."""
    import numpy as np

    least = 2.0 ** ((np.arange(256) - 1) / STEPS + LOWEST)
    least[0] = 0
    return least


def run(folder: Path, device: str) -> dict[str, Any]:
    """The result of the self-test of the bundle in `folder`, in plain values. Raises SelfTestError."""
    settings = _read_settings(folder)
    openvino = _openvino()
    _check_device(openvino.Core(), device)
    cases = read_cases(folder, settings)
    rows = run_irs(folder, settings, cases, device)
    code = MISMATCH if any(row.fault for row in rows) else PASS if rows else INCONCLUSIVE
    doubt = None
    if len({int(label) for case in cases for label in _classes(case.labels)}) < 2:
        doubt = "the network sees one class everywhere, so that a wrong IR could agree with it"
        code = code or INCONCLUSIVE
    return {
        "verdict": VERDICTS[code],
        "exit_code": code,
        "doubt": doubt,
        "device": device,
        "openvino": openvino.__version__,
        "images": len(cases),
        "results": [{**vars(row), "passed": row.fault is None, "agreement": row.agreement} for row in rows],
    }


def read_cases(folder: Path, settings: dict[str, Any]) -> list[Case]:
    """The golden cases that the settings name. Raises SelfTestError."""
    return [_read_case(folder, entry, settings) for entry in settings["cases"]]


def run_irs(folder: Path, settings: dict[str, Any], cases: list[Case], device: str) -> list[Row]:
    """The rows of the IRs that the settings name. Raises SelfTestError."""
    core = _openvino().Core()
    return [row for ir in settings["irs"] for row in _run_ir(core, folder, ir, settings, cases, device)]


def _openvino() -> Any:
    try:
        import numpy  # noqa: F401 -- a missing one is reported as well
        import openvino
        from PIL import Image  # noqa: F401
    except ImportError as error:
        raise SelfTestError(MISSING, f"{error}: pip install openvino numpy Pillow") from error
    return openvino


def _check_device(core: Any, device: str) -> None:
    """SelfTestError unless OpenVINO has the device, or all those in the brackets of AUTO:... and the like."""
    kind, _, several = device.partition(":")
    wanted = several.split(",") if several else [] if kind in _VIRTUAL else [device]
    there = core.available_devices
    for name in (one.strip().lstrip("-").split("(")[0] for one in wanted):
        if name not in {part for one in there for part in (one, one.split(".")[0])}:
            raise SelfTestError(MISSING, f"there is no device {name} here: OpenVINO has {', '.join(there)}")


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        settings: dict[str, Any] = json.loads(path.read_bytes())
        if settings["version"] != VERSION:
            raise SelfTestError(UNREADABLE, f"{path}: is of version {settings['version']}, this program's is {VERSION}")
        for name in ("batches", "cases", "irs", "layout", "output", "reversed", "tolerances"):
            settings[name]
    except OSError as error:
        raise SelfTestError(UNREADABLE, f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SelfTestError(UNREADABLE, f"{path}: is not this program's: {error!r}") from error
    return settings


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise SelfTestError(UNREADABLE, f"{path}: there is no such file in the bundle")
    return path


def _read_case(folder: Path, entry: dict[str, str], settings: dict[str, Any]) -> Case:
    import numpy as np

    image, labels, margins = (_array(_inside(folder, entry[part])) for part in ("image", "labels", "margins"))
    if image.ndim != 3 or not labels.shape == margins.shape == image.shape[:2]:
        raise SelfTestError(UNREADABLE, f"{folder}: the files of the golden case {entry['name']} do not go together")
    if settings["reversed"] and entry["image"].endswith(".png"):  # RGB in the file, BGR into the IR
        image = np.ascontiguousarray(image[:, :, ::-1])
    return Case(entry["name"], image, labels, margins)


def _array(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path) as picture:
            return np.asarray(picture)
    except Exception as error:  # Pillow's decoders raise errors of any kind for a damaged file
        raise SelfTestError(UNREADABLE, f"{path}: cannot be read: {error}") from error


def _classes(labels: Any) -> Any:
    import numpy as np

    return np.unique(labels)


def _run_ir(
    core: Any, folder: Path, ir: dict[str, Any], settings: dict[str, Any], cases: list[Case], device: str
) -> list[Row]:
    """The IR at f32, and at the precision that the device prefers if that is another."""
    path = _inside(folder, ir["file"])
    if not re.match(rb"\s*(<\?xml[^>]*>)?\s*<net\s", path.read_bytes()[:1000]):
        raise SelfTestError(UNREADABLE, f"{path}: is not an IR")
    rows: list[Row] = []
    try:
        model = core.read_model(str(path), str(_inside(folder, str(Path(ir["file"]).with_suffix(".bin")))))
        own = {_HINT: model.get_rt_info(_OWN_HINT).astype(str)} if model.has_rt_info(_OWN_HINT) else {}
        for options, is_default in (({_HINT: "f32"}, False), (own, True)):
            compiled = _compiled(core, model, device, options, is_default=is_default)
            if compiled is None:
                continue
            precision = _precision_of(core, compiled, options)
            if precision in [row.computed_in for row in rows]:
                rows[0].is_default = True
            else:
                rows.append(_judge(compiled, precision, is_default, ir, settings, cases))
    except (RuntimeError, ValueError) as error:
        raise SelfTestError(UNREADABLE, f"{path}: does not run on {device}: {_last_line(error)}") from error
    return rows


def _compiled(core: Any, model: Any, device: str, options: dict[str, str], *, is_default: bool) -> Any:
    """None where the device does not take the model at f32: it is judged at the device's own precision alone."""
    try:
        return core.compile_model(model, device, options)
    except RuntimeError:
        if is_default:
            raise
        return None


def _precision_of(core: Any, compiled: Any, options: dict[str, str]) -> str:
    """What a compiled model computes in. AUTO and HETERO do not say it: then what was asked for, or else the default of
    the devices that run it, or else f32, for which the least is allowed."""
    said: list[Any] = []
    with suppress(RuntimeError):
        said.append(compiled.get_property(_HINT))
    said += options.values()
    with suppress(RuntimeError):
        devices = compiled.get_property("EXECUTION_DEVICES")
        said += [core.get_property(name.strip("()"), _HINT) for name in devices]
    for value in said:
        name = value.get_type_name() if hasattr(value, "get_type_name") else str(value)
        if name in _PRECISIONS:
            return str(name)
    return "f32"


def _judge(
    compiled: Any, precision: str, is_default: bool, ir: dict[str, Any], settings: dict[str, Any], cases: list[Case]
) -> Row:
    """Compare the labels of a compiled IR with the golden ones."""
    row = Row(ir["file"], precision, is_default)
    row.fault = _refusal(compiled, settings, cases)
    if row.fault is not None:
        return row
    is_int8 = ir["precision"] == "INT8"
    kind = ir["precision"] if precision == "f32" else precision
    tolerance: dict[str, Any] = {"margin": math.inf, "spread": None} if is_int8 else settings["tolerances"][kind]
    for case, labels in zip(cases, _answers(compiled, settings, cases)):
        if labels.shape != case.labels.shape:
            row.fault = f"{case.name}: gives labels {list(labels.shape)} instead of {list(case.labels.shape)}"
            return row
        _count(row, case, labels, tolerance["margin"])
    if tolerance["spread"]:
        row.most = _most_flips(cases, tolerance["spread"])
    if is_int8 and row.agreement < ir["min_agreement"]:
        row.fault = f"the network's label at {row.agreement:.2%} of the pixels, {ir['min_agreement']:.2%} required"
    elif row.unexplained:
        first = row.places[0]["first"][0]
        row.fault = (
            f"{row.unexplained} of {row.pixels} pixels differ unexplained, in {row.places[0]['image']} "
            f"{row.places[0]['pixels']} at {_box_words(row.places[0]['box'])}; first x={first['x']} y={first['y']}: "
            f"class {first['label']} instead of {first['expected']}"
        )
    elif row.most is not None and row.differing > row.most:
        row.fault = f"{row.differing} of {row.pixels} pixels differ, at most {row.most} may"
    return row


def _most_flips(cases: list[Case], spread: float) -> int:
    """How many labels may differ where rounding is coarse: twice those that normal errors of this size would change,
    since errors of neighbours go together, and ten.

    Two logits at a distance m change places with the probability Q(m / spread), Q(x) = erfc(x / sqrt(2)) / 2.
    """
    import numpy as np

    counts = np.sum([np.bincount(case.margins.ravel(), minlength=256) for case in cases], axis=0)
    shares = np.array([math.erfc(least / spread / math.sqrt(2)) / 2 for least in least_margins()])
    return 10 + math.ceil(2 * float(counts @ shares))


def _refusal(compiled: Any, settings: dict[str, Any], cases: list[Case]) -> str | None:
    """Why a compiled IR does not take the golden images, or has no answer; None if all is well."""
    if len(compiled.inputs) != 1:
        return f"has {len(compiled.inputs)} inputs instead of 1"
    group = [cases[0]] * settings["batches"][0]
    shape = _tensor(group, settings["layout"]).shape
    wanted = compiled.input(0).partial_shape
    fits = len(wanted) == len(shape) and all(
        one.is_dynamic or one.get_length() == side for one, side in zip(wanted, shape)
    )
    if not fits:
        return f"takes images of {wanted}, and the golden ones are {list(shape)}"
    return None if _output(compiled, settings["output"]) else "has no label map, logits or probabilities"


def _tensor(group: list[Case], layout: str) -> Any:
    import numpy as np

    return np.stack([case.image for case in group]).transpose(["NHWC".index(axis) for axis in layout])


def _output(compiled: Any, labels: str) -> tuple[str, Any] | None:
    """The output that the labels come from, and its name: the label map, or else class scores."""
    ports = {name: port for port in compiled.outputs for name in port.get_names()}
    return next(((name, ports[name]) for name in (labels, "logits", "probabilities") if name in ports), None)


def _answers(compiled: Any, settings: dict[str, Any], cases: list[Case]) -> Any:
    """For each case its labels [H, W]. The IR runs in the batches of the settings, in turn; the last may be padded."""
    import numpy as np

    name, port = _output(compiled, settings["output"]) or ("", None)
    dtype = compiled.input(0).element_type.to_dtype()
    done, turn = 0, 0
    while done < len(cases):
        size = settings["batches"][turn % len(settings["batches"])]
        group = cases[done : done + size]
        given = np.ascontiguousarray(_tensor(group + group[-1:] * (size - len(group)), settings["layout"]), dtype)
        found = compiled(given)[port]
        labels = found[:, 0].copy() if name == settings["output"] else found.argmax(axis=1)
        yield from labels[: len(group)]
        done, turn = done + size, turn + 1


def _count(row: Row, case: Case, labels: Any, within: float) -> None:
    """Add the pixels of a case to the row. Explained is a difference where the network's margin is `within`."""
    import numpy as np

    least = least_margins()[case.margins]
    differs = labels != case.labels
    wrong = differs & (least > within)
    row.pixels += labels.size
    row.differing += int(differs.sum())
    row.unexplained += int(wrong.sum())
    if wrong.any():
        ys, xs = np.nonzero(wrong)
        first = [
            {
                "x": int(x),
                "y": int(y),
                "label": int(labels[y, x]),
                "expected": int(case.labels[y, x]),
                "margin": float(least[y, x]),
            }
            for y, x in zip(ys[:_SHOWN], xs[:_SHOWN])
        ]
        box = [int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())]
        row.places.append({"image": case.name, "pixels": int(wrong.sum()), "box": box, "first": first})


def _box_words(box: list[int]) -> str:
    return f"x={box[0]}..{box[2]} y={box[1]}..{box[3]}"


def _last_line(error: Exception) -> str:
    """The reason in one of OpenVINO's messages, which begin with the names of its source files."""
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"])[-1]


def in_words(result: dict[str, Any]) -> list[str]:
    """The lines that are printed."""
    lines = []
    for row in result["results"]:
        at = f"{row['file']} at {row['computed_in']}{', the default' if row['is_default'] else ''}"
        rest = f"{row['differing']} of {row['pixels']} pixels differ"
        lines.append(f"{at}: {'FAIL: ' + row['fault'] if row['fault'] else 'pass: ' + rest}")
    if result["doubt"]:
        lines.append(result["doubt"])
    where = f"{result['device']}, openvino {result['openvino']}, {result['images']} images"
    return [*lines, f"verdict: {result['verdict']}   {where}"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="CPU", help="OpenVINO's name of the device. Default: CPU.")
    parser.add_argument("--json", action="store_true", help="Print the result as JSON.")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="The bundle. Default: this folder.")
    asked = parser.parse_args(arguments)
    try:
        result = run(asked.folder, asked.device)
    except SelfTestError as error:
        if asked.json:
            print(json.dumps({"error": str(error), "exit_code": error.code}))
        print(f"error: {error}", file=sys.stderr)
        return error.code
    print(json.dumps(result, indent=2) if asked.json else "\n".join(in_words(result)))
    return int(result["exit_code"])


if __name__ == "__main__":
    sys.exit(main())
