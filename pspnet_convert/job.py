"""What the stages of one model share: its workspace and manifest, what was read, and how a stage is done and recorded.

What a stage does is its module's business (stages/); which comes after which is the pipeline's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.lock_file import pinned, write_pin
from pspnet_convert.errors import ArtifactError
from pspnet_convert.files import write_atomically
from pspnet_convert.manifest import Digests, FileRecord, Manifest, StageRecord, versions
from pspnet_convert.progress import Progress
from pspnet_convert.pytorch.source_checkpoint import SourceCheckpoint
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.workspace import INT8, Workspace, ir_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointChoice:
    """Which checkpoint to convert: the workspace's own (`path` None), or a file that the user has."""

    path: Path | None = None
    allow_unknown: bool = False


@dataclass(frozen=True)
class Outcome:
    """A stage's record, and whether it was there already."""

    stage: str
    record: StageRecord
    skipped: bool

    def as_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "skipped": self.skipped, **asdict(self.record)}


class Job:
    """One model in its workspace. What two stages both need (digests, the network) is read once."""

    def __init__(
        self,
        card: ModelCard,
        workspace: Workspace,
        progress: Progress,
        choice: CheckpointChoice,
        *,
        force: bool = False,
    ) -> None:
        self.card = card
        self.workspace = workspace
        self.progress = progress
        self.force = force
        self.manifest = Manifest(workspace.manifest, card)
        self.digests = Digests()
        checkpoint = choice.path or workspace.checkpoint(card.checkpoint.name)
        self.original = SourceCheckpoint(card, checkpoint, self.digests, allow_unknown=choice.allow_unknown)
        self._page_lags = False

    # Which checkpoint it is

    def checkpoint_record(self) -> dict[str, Any]:
        """SourceCheckpoint.record; from then on the card is pinned to the checkpoint, if that is its own."""
        record = self.original.record()
        if record["is_the_cards"]:
            self.pin(record["sha256"], record["size"])
        return record

    def pin(self, sha256: str, size: int) -> None:
        """Hold the model to the file of this SHA-256 and size (bytes), in the lock file too, unless it is already.

        For the errors see pins.write_pin.
        """
        if not self.card.checkpoint.pinned:
            self.card = self.original.card = self.manifest.card = write_pin(
                self.card, self.workspace.root, sha256, size
            )

    # What a stage was given

    def converted_card(self) -> dict[str, Any]:
        """What of the card changes the artifacts: another description or figure is no reason to convert again."""
        return self.card.model_dump(
            mode="json",
            include={"name", "config", "network", "config_overrides", "input", "output", "classes"},
            exclude_none=True,
        )

    def exported_shape(self) -> ImageShape:
        """What export-onnx was asked for; the card's where the manifest has no such stage."""
        record = self.manifest.stage("export-onnx")
        if record is None:
            return self.card.input.shape
        batch, channels, height, width = record.options["input_shape"]
        return batch, channels, height, width

    def input_form(self) -> InputForm:
        """What to-ir was asked for; the plain one where the manifest has no such stage."""
        record = self.manifest.stage("to-ir")
        return PLAIN if record is None else InputForm(record.options["input_type"], record.options["input_layout"])

    def ir(self, precision: str) -> Path:
        """The .xml of the workspace's IR; ArtifactError if one lies there that is_left."""
        path = self.workspace.ir(precision)
        if self.is_left(precision):
            raise ArtifactError(f"{path}: is of an earlier conversion", self._missing_stage(precision))
        return path

    def is_left(self, precision: str) -> bool:
        """Whether an IR lies there that is of an earlier conversion.

        It may be of another checkpoint, and in what form it takes images, the manifest tells no more. Where the
        manifest has neither the IR's making nor the ONNX's, an IR is taken as it is.
        """
        return self.workspace.ir(precision).is_file() and self._missing_stage(precision) is not None

    def _missing_stage(self, precision: str) -> str | None:
        """What to run for the manifest to tell of this IR; None if it does, or tells of no conversion at all."""
        record = self.manifest.stage("to-ir")
        if record is None:
            return None if self.manifest.stage("export-onnx") is None else "Run to-ir first."
        if record.inputs["card"] != self.converted_card():
            return "It was converted with another card: run run again."
        origin = "FP32" if precision == INT8 else precision
        if origin not in record.options["precisions"]:
            return f"Run to-ir with --precision {origin} first."
        return "Run quantize first." if precision == INT8 and self.manifest.stage("quantize") is None else None

    def record(self, path: Path) -> FileRecord:
        """A file as the manifest has it: by its place in the workspace, of one from elsewhere the name alone."""
        return self.digests.record(path, self._told(path))

    def records(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        """The records of `files`, as plain values."""
        return [asdict(self.record(path)) for path in files]

    def pictures(self, images: Sequence[Path]) -> list[dict[str, Any]]:
        """The records of pictures, as plain values; ImageError for a file that is none."""
        from pspnet_convert.runtimes.images import read_image

        for path in images:
            read_image(path)
        return [asdict(self.digests.record(path, path.name)) for path in images]

    def _told(self, path: Path) -> str:
        inside = path.is_relative_to(self.workspace.folder)
        return path.relative_to(self.workspace.folder).as_posix() if inside else path.name

    # How a stage is done

    def stage(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        tools: Sequence[str],
        outputs: Sequence[Path],
        work: Callable[[], dict[str, Any]],
    ) -> Outcome:
        """Do `work`, which writes `outputs` and returns the result, and write it to the manifest.

        Skipped when the manifest says that the same work was done, and its outputs are as it left them. `tools`: the
        packages whose versions make it other work.
        """
        planned = StageRecord(inputs, options, versions(*tools))
        before = None if self.force else self.manifest.find_reusable(name, planned, self.digests)
        if before is not None:
            return tell(Outcome(name, before, skipped=True))
        log.info("%s: %s", name, self.card.name)
        started = time.monotonic()
        record = self.finish(planned, started, outputs, work())
        self.write(name, record)
        return tell(Outcome(name, record, skipped=False))

    def finish(
        self, planned: StageRecord, started: float, outputs: Sequence[Path], result: Mapping[str, Any]
    ) -> StageRecord:
        """The record of work that is done; `started` by time.monotonic."""
        return replace(
            planned,
            outputs=[self.record(path) for path in outputs],
            result=result,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 3),
        )

    def write(self, name: str, record: StageRecord) -> None:
        """Put a stage's record into the manifest."""
        self.manifest.write(name, record)
        self._page_lags = True

    @contextmanager
    def write_atomically(self, *targets: Path) -> Iterator[list[Path]]:
        """workspace.write_atomically, before whose moves the manifest forgets what it says of files that go.

        A run that is killed between two moves leaves a mix, which the manifest must not vouch for.
        """
        with write_atomically(*targets) as made:
            yield made
            records = [self.digests.record(path, self._told(target)) for path, target in zip(made, targets)]
            self.manifest.drop_stages_using(records)
        for record, target in zip(records, targets):
            self.digests.learn(target, record.sha256)

    @contextmanager
    def write_irs_atomically(self, targets: Sequence[Path]) -> Iterator[list[Path]]:
        """Paths of .xml to write, each with its .bin beside it; they take the places of `targets` as in replacing."""
        with self.write_atomically(*(file for path in targets for file in ir_files(path))) as made:
            # Both halves in one folder, since the .xml names no .bin and expects it beside.
            written = [path.with_suffix(".xml") for path in made[::2]]
            yield written
            for path, target in zip(written, made[1::2]):
                path.replace(target)

    # The page of what was done

    def write_page(self) -> Path:
        """Write the page of what the manifest has; ArtifactError if that is nothing."""
        from pspnet_convert.report.page import write_report

        manifest = self.manifest.as_dict()
        if not manifest["stages"]:
            raise ArtifactError(f"{self.workspace.manifest}: tells of no stage yet", "Run run first.")
        write_report(manifest, self.workspace.folder, self.digests.of, self.workspace.report)
        self._page_lags = False
        return self.workspace.report

    def keep_page_true(self) -> None:
        """Write a page that is there anew where it tells of stages that have been done again since."""
        if self._page_lags and self.workspace.report.is_file():
            self.write_page()


@contextmanager
def open_job(
    card: ModelCard,
    output_dir: Path,
    progress: Progress,
    choice: CheckpointChoice = CheckpointChoice(),
    *,
    force: bool = False,
) -> Iterator[Job]:
    """A Job that holds the model's folder below `output_dir` for as long as the block lasts.

    Its card is pinned as the lock file says (pins.pinned, which see for the errors).
    """
    workspace = Workspace(output_dir, card.name)
    with workspace.locked():
        job = Job(pinned(card, output_dir), workspace, progress, choice, force=force)
        try:
            yield job
        finally:
            job.keep_page_true()


def require(files: Sequence[Path], stage: str) -> None:
    """ArtifactError unless all `files` are there, which `stage` makes."""
    for path in files:
        if not path.is_file():
            raise ArtifactError(f"{path}: is not there yet", f"Run {stage} first, or run, which does all stages.")


def tell(outcome: Outcome) -> Outcome:
    """Log in one line how a stage went, and hand it on."""
    log.info("%s: %s", outcome.stage, "unchanged" if outcome.skipped else f"done in {outcome.record.seconds:.1f} s")
    return outcome
