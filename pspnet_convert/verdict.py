"""Whether the present files have passed verification, according to the manifest."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.manifest_document import Stages
from pspnet_convert.manifest_fields import Comparison, StageRecord, VerifyResult

DigestOf = Callable[[Path], str]  # a file's SHA-256 in hex
_MODELS = (".onnx", ".xml", ".bin")


@dataclass(frozen=True)
class Verdict:
    """`state`: pass, mismatch, inconclusive or unverified; also a class in the page's style sheet."""

    state: str
    title: str
    words: str


def present(stages: Stages, folder: Path, digest_of: DigestOf) -> dict[str, str]:
    """The digests, by file, of the ONNX and IR files that stages made or read and that now exist."""
    made = {output.file for record in stages.values() for output in record.outputs}
    files = made.union(*(_seen(record) for record in stages.values()))
    models = sorted(file for file in files if file.endswith(_MODELS) and (folder / file).is_file())
    return {file: digest_of(folder / file) for file in models}


def changed_since(record: StageRecord, there: Mapping[str, str]) -> list[str]:
    """The models that the stage `record` read and that are now missing or different; `there`: from `present`."""
    return [file for file, sha256 in _seen(record).items() if there.get(file) != sha256]


def outdated(stages: Stages, there: Mapping[str, str]) -> list[str]:
    """The stages that read models which are now missing, different, or of another conversion than the verified ones."""
    changed = {name for name, record in stages.items() if changed_since(record, there)}
    return sorted(changed.union(of_another_fp32(stages)))


def of_another_fp32(stages: Stages) -> list[str]:
    """The stages of INT8 that read another FP32 IR than verify did; empty if nothing was verified.

    This happens when a later conversion was to FP16 only: the earlier FP32 IR is still there, unchanged.
    """
    if "verify" not in stages:
        return []
    verified = _seen(stages["verify"])
    return [
        name
        for name in ("quantize", "verify-int8")
        if name in stages
        for file, sha256 in _seen(stages[name]).items()
        if file.startswith("FP32/") and verified.get(file) != sha256
    ]


def _seen(record: StageRecord) -> dict[str, str]:
    """The digests, by file, of the models that a stage read; evaluate's record groups them by model."""
    models = getattr(record.inputs, "models", ())
    records = itertools.chain.from_iterable(models.values()) if isinstance(models, Mapping) else models
    return {one.file: one.sha256 for one in records if one.file.endswith(_MODELS)}


def verdict(stages: Stages, there: Mapping[str, str]) -> Verdict:
    """The verdict on the present files (`there`, from `present`); a verification of other files does not count."""
    if "verify" not in stages:
        return Verdict("unverified", "Not verified", "The converted models were not compared with the original.")
    seen = _seen(stages["verify"])
    conversion = [stages[name] for name in ("export-onnx", "to-ir") if name in stages]
    converted = {output.file for record in conversion for output in record.outputs}
    other = [file for file in sorted({*seen, *converted}) if seen.get(file) != there.get(file)]
    if other:
        return Verdict("unverified", "Not verified", f"Not the files that were verified: {', '.join(other)}.")
    result: VerifyResult = stages["verify"].result
    if result.verdict == "pass":
        return Verdict("pass", "Verified", "Every converted model gives the PyTorch network's results.")
    if result.verdict == "mismatch":
        wrong = " and ".join(row.backend for row in judged(result) if not row.passed)
        words = f"Other results than the PyTorch network's: {wrong}. " if wrong else ""
        if result.preprocessing is not None and not result.preprocessing.passed:
            words += "Images are prepared in another way than mmsegmentation's. "
        return Verdict("mismatch", "Wrong", f"{words}Do not ship it.")
    doubts = "; ".join(result.doubts)
    return Verdict("inconclusive", "Inconclusive", f"Verified on pictures that prove little: {doubts}.")


def doubt(stages: Stages, there: Mapping[str, str]) -> tuple[str, str] | None:
    """Why the files in `there` (from `present`) are not verified, and advice; None if they are verified."""
    found = verdict(stages, there)
    if found.state != "pass":
        return found.words, "Run `pspnet-convert verify`"
    if "quantize" not in stages:
        return None
    if "quantize" in of_another_fp32(stages):
        advice = "Run `pspnet-convert run`, then `pspnet-convert quantize`"
        return "The INT8 IR was made from an FP32 IR that was not verified", advice
    check = stages.get("verify-int8")
    if check is None or changed_since(check, there):
        return "The present INT8 IR was not compared with the present FP32 IR", "Run `pspnet-convert quantize`"
    if check.result.verdict != "pass":
        return "The INT8 IR did not pass its verification", "Run `pspnet-convert quantize` with better pictures"
    return None


def judged(result: VerifyResult) -> list[Comparison]:
    """A verification's comparisons that decide its verdict."""
    return [row for row in result.comparisons if not row.report_only]
