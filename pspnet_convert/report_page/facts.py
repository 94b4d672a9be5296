"""What the page says about a run, read from the manifest's stages; any stage may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from pspnet_convert.report_page.words import percent, scientific
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.verdict import NO_STAGE, Stages, judged

_ORDER = ("download", "export-onnx", "to-ir", "verify", "quantize", "verify-int8", "evaluate")
_NEEDED = _ORDER[1:4]  # a checkpoint may come from elsewhere


@dataclass(frozen=True)
class Figure:
    """One of the large figures at the top."""

    value: str
    name: str
    detail: str


@dataclass(frozen=True)
class Step:
    """A stage of the chain. `record`: None if it has not run. `files`: its outputs without pictures."""

    name: str
    record: Mapping[str, Any] | None
    files: Sequence[Mapping[str, Any]]
    pictures: int


def key_figures(stages: Stages) -> list[Figure]:
    """The large figures of the verification; empty if there is none."""
    result = stages.get("verify", NO_STAGE)["result"]
    rows = judged(result) if result else []
    if not rows:
        return []
    differing = min(rows, key=lambda row: row["agreement"])
    farthest = max(rows, key=_largest_error)
    pictures = len(result["inputs"])
    return [
        Figure(
            percent(differing["agreement"]),
            "of the pixels have the reference's class",
            f"lowest: {differing['backend']}",
        ),
        Figure(
            scientific(farthest["relative_error"]["largest"]),
            "largest relative logit error",
            f"of {farthest['backend']}",
        ),
        Figure(
            f"{max(row['pixels'] for row in rows):,}",
            "pixels compared for each model",
            f"in {pictures} picture{'' if pictures == 1 else 's'}",
        ),
    ]


def _largest_error(row: Mapping[str, Any]) -> float:
    largest = row["relative_error"]["largest"]
    return inf if largest is None else float(largest)


def notices(stages: Stages) -> list[str]:
    """Warnings to read before the figures."""
    found = []
    exported = stages.get("export-onnx", NO_STAGE)
    checkpoint = stages.get("verify", exported)["inputs"].get("checkpoint", {"is_the_cards": True})
    if not checkpoint["is_the_cards"]:
        found.append(f"The checkpoint {checkpoint['file']} is not the one that the model's card names.")
    if stages.get("verify-int8", NO_STAGE)["result"].get("verdict", "pass") != "pass":
        found.append("The INT8 model did not pass its verification.")
    return [*found, *exported["result"].get("checkpoint", {"warnings": ()})["warnings"]]


def steps(stages: Stages) -> list[Step]:
    """The stages in order, with those that should have run and have not."""
    known = [name for name in _ORDER if name in stages or name in _NEEDED]
    return [_step(name, stages.get(name)) for name in [*known, *(name for name in stages if name not in _ORDER)]]


def _step(name: str, record: Mapping[str, Any] | None) -> Step:
    outputs = record["outputs"] if record else []
    files = [output for output in outputs if not output["file"].endswith(".png")]
    return Step(name, record, files, len(outputs) - len(files))


def versions(stages: Stages) -> dict[str, str]:
    """Each library's version, or versions if stages ran with different ones."""
    found: dict[str, list[str]] = {}
    for record in stages.values():
        for tool, version in record["tools"].items():
            if version not in found.setdefault(tool, []):
                found[tool].append(version)
    return {tool: ", ".join(found[tool]) for tool in sorted(found)}


def first_ir(stages: Stages) -> str | None:
    """The IR in the page's example code, relative to the page; None if there is no IR."""
    files = [output["file"] for output in stages.get("to-ir", NO_STAGE)["outputs"]]
    return next((file for file in files if file.endswith(".xml")), None)


def label_type(stages: Stages) -> str:
    return "int32" if stages.get("export-onnx", NO_STAGE)["options"].get("int32") else "int64"


def image_shape(manifest: Mapping[str, Any]) -> ImageShape:
    """[batch, 3, height, width] as exported; the card's shape if there is no export."""
    options = manifest["stages"].get("export-onnx", NO_STAGE)["options"]
    batch, channels, height, width = options["input_shape"] if options else manifest["model"]["input"]["shape"]
    return batch, channels, height, width


def input_form(stages: Stages) -> InputForm:
    """How the IR takes images; the plain form if there is no IR."""
    options = stages.get("to-ir", NO_STAGE)["options"]
    return InputForm(options["input_type"], options["input_layout"]) if options else PLAIN
