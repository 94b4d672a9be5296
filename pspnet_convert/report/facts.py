"""What the page says of a run: the verdict, the large figures, the chain. Taken from the manifest's stages.

Stages are StageRecords as plain values, any of which may be missing; how figures are written is words.py's business.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Optional

from pspnet_convert.models.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.report.words import percent, scientific

Stages = Mapping[str, Mapping[str, Any]]
DigestOf = Callable[[Path], str]  # a file's SHA-256 in hex

_ORDER = ("download", "export-onnx", "to-ir", "verify", "quantize", "verify-int8", "evaluate")
_NEEDED = _ORDER[1:4]  # a checkpoint may come from elsewhere
_MODELS = (".onnx", ".xml", ".bin")
_NONE: Mapping[str, Any] = {"inputs": {}, "outputs": (), "options": {}, "result": {}}  # a stage that has not run


@dataclass(frozen=True)
class Verdict:
    """`state`: pass, mismatch, inconclusive or unverified, a class of the style sheet."""

    state: str
    title: str
    words: str


@dataclass(frozen=True)
class Figure:
    """One of the large figures at the top."""

    value: str
    name: str
    detail: str


@dataclass(frozen=True)
class Step:
    """A stage of the chain; `record` is None where it has not run. `files` are the outputs that are no pictures."""

    name: str
    record: Optional[Mapping[str, Any]]
    files: Sequence[Mapping[str, Any]]
    pictures: int


def present(stages: Stages, folder: Path, digest_of: DigestOf) -> dict[str, str]:
    """The digests of the ONNX and IR files that stages made or looked at, and that are there now."""
    made = {output["file"] for record in stages.values() for output in record["outputs"]}
    files = made.union(*(_seen(record) for record in stages.values()))
    models = sorted(file for file in files if file.endswith(_MODELS) and (folder / file).is_file())
    return {file: digest_of(folder / file) for file in models}


def changed_since(record: Mapping[str, Any], there: Mapping[str, str]) -> list[str]:
    """The models that the stage `record` looked at and that are not there as they were; `there` is `present`'s."""
    return [file for file, sha256 in _seen(record).items() if there.get(file) != sha256]


def outdated(stages: Stages, there: Mapping[str, str]) -> list[str]:
    """The stages whose models are not there as they were, or are of another conversion than the verified ones."""
    changed = {name for name, record in stages.items() if changed_since(record, there)}
    return sorted(changed.union(of_another_fp32(stages)))


def of_another_fp32(stages: Stages) -> list[str]:
    """Which of INT8's stages were given an FP32 IR that verify was not; none where nothing was verified.

    Where a later conversion was to FP16 alone, the FP32 IR of the one before still lies there as they were given it.
    """
    if "verify" not in stages:
        return []
    verified = _seen(stages["verify"])
    return [
        name
        for name in ("quantize", "verify-int8")
        for file, sha256 in _seen(stages.get(name, _NONE)).items()
        if file.startswith("FP32/") and verified.get(file) != sha256
    ]


def _seen(record: Mapping[str, Any]) -> dict[str, str]:
    """Digests by file of the models that a stage looked at; evaluate has them by model."""
    models = record["inputs"].get("models", ())
    records = itertools.chain.from_iterable(models.values()) if isinstance(models, Mapping) else models
    return {one["file"]: one["sha256"] for one in records if one["file"].endswith(_MODELS)}


def verdict(stages: Stages, there: Mapping[str, str]) -> Verdict:
    """Of the files that lie there now (`present`'s): a verification of other files counts for nothing."""
    if "verify" not in stages:
        return Verdict("unverified", "Not verified", "The converted models were not compared with the original.")
    seen = _seen(stages["verify"])
    converted = {output["file"] for name in ("export-onnx", "to-ir") for output in stages.get(name, _NONE)["outputs"]}
    other = [file for file in sorted({*seen, *converted}) if seen.get(file) != there.get(file)]
    if other:
        return Verdict("unverified", "Not verified", f"Not as they were when they were verified: {', '.join(other)}.")
    result = stages["verify"]["result"]
    if result["verdict"] == "pass":
        return Verdict("pass", "Verified", "Every converted model gives the PyTorch network's answers.")
    if result["verdict"] == "mismatch":
        wrong = " and ".join(row["backend"] for row in judged(result) if not row["passed"])
        return Verdict("mismatch", "Wrong", f"Not the PyTorch network's answers: {wrong}. Do not ship it.")
    doubts = "; ".join(result["doubts"])
    return Verdict("inconclusive", "Inconclusive", f"Verified on pictures that prove little: {doubts}.")


def judged(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A verification's comparisons that its verdict rests on."""
    return [row for row in result["comparisons"] if not row["informative"]]


def key_figures(stages: Stages) -> list[Figure]:
    """Of the verification; none where there is none."""
    result = stages.get("verify", _NONE)["result"]
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
            f"{differing['backend']}, the least",
        ),
        Figure(
            scientific(farthest["relative_error"]["largest"]),
            "is the largest logit error, relative",
            f"{farthest['backend']}, the most",
        ),
        Figure(
            f"{max(row['pixels'] for row in rows):,}",
            "pixels of each model compared",
            f"in {pictures} picture{'' if pictures == 1 else 's'}",
        ),
    ]


def _largest_error(row: Mapping[str, Any]) -> float:
    largest = row["relative_error"]["largest"]
    return inf if largest is None else float(largest)


def notices(stages: Stages) -> list[str]:
    """What one must know before believing a figure."""
    found = []
    exported = stages.get("export-onnx", _NONE)
    checkpoint = stages.get("verify", exported)["inputs"].get("checkpoint", {"is_the_cards": True})
    if not checkpoint["is_the_cards"]:
        found.append(f"The checkpoint {checkpoint['file']} is not the one that the model's card names.")
    if stages.get("verify-int8", _NONE)["result"].get("verdict", "pass") != "pass":
        found.append("The INT8 model did not pass its own verification.")
    return [*found, *exported["result"].get("checkpoint", {"warnings": ()})["warnings"]]


def steps(stages: Stages) -> list[Step]:
    """The chain in its order; stages that must run and have not are among them."""
    known = [name for name in _ORDER if name in stages or name in _NEEDED]
    return [_step(name, stages.get(name)) for name in [*known, *(name for name in stages if name not in _ORDER)]]


def _step(name: str, record: Optional[Mapping[str, Any]]) -> Step:
    outputs = record["outputs"] if record else []
    files = [output for output in outputs if not output["file"].endswith(".png")]
    return Step(name, record, files, len(outputs) - len(files))


def versions(stages: Stages) -> dict[str, str]:
    """Each library's version; several where stages ran with different ones."""
    found: dict[str, list[str]] = {}
    for record in stages.values():
        for tool, version in record["tools"].items():
            if version not in found.setdefault(tool, []):
                found[tool].append(version)
    return {tool: ", ".join(found[tool]) for tool in sorted(found)}


def first_ir(stages: Stages) -> Optional[str]:
    """The IR that the page shows how to use, relative to the page."""
    files = [output["file"] for output in stages.get("to-ir", _NONE)["outputs"]]
    return next((file for file in files if file.endswith(".xml")), None)


def label_type(stages: Stages) -> str:
    return "int32" if stages.get("export-onnx", _NONE)["options"].get("int32") else "int64"


def image_shape(manifest: Mapping[str, Any]) -> ImageShape:
    """[batch, 3, height, width] as exported; the card's where that is not known."""
    options = manifest["stages"].get("export-onnx", _NONE)["options"]
    batch, channels, height, width = options["input_shape"] if options else manifest["model"]["input"]["shape"]
    return batch, channels, height, width


def input_form(stages: Stages) -> InputForm:
    """How the IR takes images; the plain form where there is no IR."""
    options = stages.get("to-ir", _NONE)["options"]
    return InputForm(options["input_type"], options["input_layout"]) if options else PLAIN
