"""Choose what is evaluated: protocol, data set and models, as the user asked or by default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError, CardError, DatasetError
from pspnet_convert.evaluate.dataset import Entry
from pspnet_convert.evaluate.labelling import ONNX, PYTORCH
from pspnet_convert.evaluate.protocols import PROTOCOLS
from pspnet_convert.job import Job
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.runtimes.openvino_install import require_openvino

log = logging.getLogger(__name__)
IRS = ("FP32", "FP16", "INT8")


@dataclass(frozen=True)
class Choice:
    """What the user asked for. `dataset`: None for the card's; `protocol`: None for find_protocol's default.

    `backends`: of PYTORCH, ONNX and IRS; empty for all that the workspace has. `limit`: only the first so many images.
    `max_drop`: the points of mean IoU that a model may be below its reference. `ray`: a cluster's address.
    """

    dataset: Path | None = None
    split: str = "val"
    protocol: str | None = None
    backends: Sequence[str] = ()
    limit: int | None = None
    skip_bad: bool = False
    max_drop: float | None = None
    resume: bool = False
    ray: str | None = None


def find_protocol(choice: Choice, card: ModelCard) -> str:
    """The user's protocol; else that of the card's first figure with one of PROTOCOLS; else `crop`."""
    known = (figure.protocol for figure in card.accuracy if figure.protocol in PROTOCOLS)
    return choice.protocol or next(known, "crop")


def find_dataset(choice: Choice, card: ModelCard) -> Path:
    """The data set's folder; DatasetError if none is given and the card has none."""
    if choice.dataset is not None:
        return choice.dataset
    if card.dataset is None:
        raise DatasetError(f"{card.name} comes with no data set", "Give one with --dataset.")
    return card.folder / card.dataset


def find_subjects(choice: Choice, job: Job) -> list[ModelFile]:
    """The chosen models; by default all in the workspace, except IRs of an earlier conversion, which are logged.

    ArtifactError if a chosen one is missing or of an earlier conversion; DependencyError if an IR is among them and
    OpenVINO is not installed.
    """
    workspace = job.workspace
    paths = {PYTORCH: job.original.path, ONNX: workspace.onnx, **{name: workspace.ir(name) for name in IRS}}
    there = [name for name, path in paths.items() if path.is_file()]
    for left in [name for name in there if name in IRS and not choice.backends and job.is_left(name)]:
        log.warning("%s is of an earlier conversion, and is not evaluated", paths[left])
        there.remove(left)
    missing = [name for name in choice.backends if name not in there]
    if missing or not there:
        path = paths[missing[0]] if missing else workspace.folder
        raise ArtifactError(
            f"{path}: there is no such model", "Run `pspnet-convert run` first; for INT8, `pspnet-convert quantize`."
        )
    chosen = [name for name in there if name in choice.backends or not choice.backends]
    if set(chosen) & set(IRS):
        require_openvino()
    return [ModelFile(f"IR {name}", job.ir(name)) if name in IRS else ModelFile(name, paths[name]) for name in chosen]


def image_digests(entries: Sequence[Entry], digest: Callable[[Path], str]) -> dict[str, list[str | None]]:
    """By entry name, the SHA-256 of its image and its annotation; None for a file that is missing."""
    return {
        entry.name: [digest(path) if path.is_file() else None for path in (entry.image, entry.annotation)]
        for entry in entries
    }


def stated_figure(card: ModelCard, protocol: str) -> float | None:
    """The card's mean IoU, in per cent, for this protocol; None if it states none."""
    figures = (figure for figure in card.accuracy if figure.metric == "mean_iou")
    return next((figure.value for figure in figures if figure.protocol == protocol), None)


def check_comparable(choice: Choice, card: ModelCard, protocol: str, subjects: Sequence[ModelFile]) -> None:
    """Raise CardError if --max-drop is given and there is no reference to measure the drop against."""
    has_reference = stated_figure(card, protocol) is not None or subjects[0].name == PYTORCH
    if choice.max_drop is not None and not has_reference:
        raise CardError(
            f"{card.name}: --max-drop has nothing to compare with, the card states no figure for protocol {protocol}",
            "Evaluate PyTorch in the same pass (--backend PyTorch).",
        )
