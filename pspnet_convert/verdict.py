"""Whether the files that are there have passed verification, as the manifest has it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Stages = Mapping[str, Mapping[str, Any]]
DigestOf = Callable[[Path], str]  # a file's SHA-256 in hex
NO_STAGE: Mapping[str, Any] = {"inputs": {}, "outputs": (), "options": {}, "result": {}}  # a stage that has not run
_MODELS = (".onnx", ".xml", ".bin")


@dataclass(frozen=True)
class Verdict:
    """`state`: pass, mismatch, inconclusive or unverified, a class of the style sheet."""

    state: str
    title: str
    words: str


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
        for file, sha256 in _seen(stages.get(name, NO_STAGE)).items()
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
    converted = {
        output["file"] for name in ("export-onnx", "to-ir") for output in stages.get(name, NO_STAGE)["outputs"]
    }
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
