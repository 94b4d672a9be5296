"""How a stage runs: skipped if nothing has changed, its files moved into place, its record put into the manifest."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import DEFAULT_MODEL
from pspnet_convert.cards.lock_file import pinned, write_pin
from pspnet_convert.errors import ArtifactError, OptionError
from pspnet_convert.files import Digests, move_into_place, temporary_folder, writing
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.job_options import OF_OWN_CARD, JobOptions
from pspnet_convert.manifest import Manifest
from pspnet_convert.manifest_document import RECORDS
from pspnet_convert.manifest_fields import StageRecord
from pspnet_convert.package_versions import versions
from pspnet_convert.progress import Progress, make_progress
from pspnet_convert.pytorch.source_checkpoint import SourceCheckpoint
from pspnet_convert.runtimes.input_form import PLAIN, InputForm
from pspnet_convert.runtimes.output_form import OutputForm
from pspnet_convert.stage import Outcome, Stage
from pspnet_convert.workspace import INT8, Workspace

log = logging.getLogger(__name__)


class Job:
    """One model in its workspace. What several stages need (digests, the network) is read once."""

    def __init__(self, card: ModelCard, asked: JobOptions, progress: Progress, digests: Digests) -> None:
        self.card = card
        self.workspace = Workspace(asked.output_dir, card.name)
        self.progress = progress
        self.force = asked.force
        self.manifest = Manifest(self.workspace.manifest, card)
        self.digests = digests
        checkpoint = asked.checkpoint or self.workspace.checkpoint(card.checkpoint.name)
        self.source = SourceCheckpoint(card, checkpoint, self.digests, allow_unknown=asked.allow_unknown_checkpoint)
        self._page_is_old = False

    # The checkpoint

    def checkpoint_record(self) -> dict[str, Any]:
        """SourceCheckpoint.record. Pins the card to the checkpoint, if that is the card's."""
        record = self.source.record()
        if record["is_the_cards"]:
            self.pin(record["sha256"], record["size"])
        return record

    def pin(self, sha256: str, size: int) -> None:
        """Hold the model to the file of this SHA-256 and size (bytes), in the lock file too, unless it is already.

        Raises the errors of lock_file.write_pin.
        """
        if not self.card.checkpoint.pinned:
            self.card = self.source.card = self.manifest.card = write_pin(self.card, self.workspace.root, sha256, size)

    # What stages are given

    def converted_card(self) -> dict[str, Any]:
        """The part of the card that changes the artifacts: another description is no reason to convert again."""
        return self.card.model_dump(
            mode="json",
            include={"name", "config", "network", "needs_config", "config_overrides", "input", "output", "classes"},
            exclude_none=True,
        )

    def exported_shape(self) -> ImageShape:
        """The shape that the ONNX was exported for; the card's where the manifest has no export-onnx."""
        record = self.manifest.stage("export-onnx")
        return self.card.input.shape if record is None else record.options.shape

    def input_form(self) -> InputForm:
        """The form in which the IRs take images; the plain one where the manifest has no to-ir."""
        record = self.manifest.stage("to-ir")
        return PLAIN if record is None else record.options.form

    def output_form(self) -> OutputForm | None:
        """What ONNX and IRs give; None where the manifest has no export-onnx."""
        record = self.manifest.stage("export-onnx")
        return None if record is None else record.options.form  # type: ignore[no-any-return]

    def ir(self, precision: str) -> Path:
        """The .xml of the workspace's IR; ArtifactError where an IR is there that is not current."""
        path = self.workspace.ir(precision)
        if self.has_old_ir(precision):
            raise ArtifactError(f"{path}: is of an earlier conversion", self.ir_problem(precision))
        return path

    def has_old_ir(self, precision: str) -> bool:
        """Whether the workspace has an IR of an earlier conversion: of another checkpoint, card or input form."""
        return self.workspace.ir(precision).is_file() and self.ir_problem(precision) is not None

    def ir_problem(self, precision: str) -> str | None:
        """How to make this IR current; None if it is current, or if the manifest knows no conversion at all."""
        record = self.manifest.stage("to-ir")
        if record is None:
            return None if self.manifest.stage("export-onnx") is None else "Run `pspnet-convert to-ir` first."
        if record.inputs.card.model_dump(mode="json") != self.converted_card():
            return "It was converted with another card. Run `pspnet-convert run` again."
        origin = "FP32" if precision == INT8 else precision
        if origin not in record.options.precision:
            return f"Run `pspnet-convert to-ir --precision {origin}` first."
        if precision == INT8 and self.manifest.stage("quantize") is None:
            return "Run `pspnet-convert quantize` first."
        return None

    def record(self, path: Path) -> dict[str, Any]:
        """The record of a file: by its place in the workspace; of one from elsewhere by its bare name."""
        inside = path.is_relative_to(self.workspace.folder)
        return self.digests.record(path, path.relative_to(self.workspace.folder).as_posix() if inside else path.name)

    def records(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        """The records of `files`, as plain values."""
        return [self.record(path) for path in files]

    def image_records(self, images: Sequence[Path]) -> list[dict[str, Any]]:
        """The records of images, as plain values; ImageError for a file that is none, or does not fit the model."""
        from pspnet_convert.runtimes.images import SAMPLES, read_image
        from pspnet_convert.runtimes.model_images import ModelImages

        files = ModelImages.of(self.card)
        for path in images:
            if path.parent == SAMPLES:  # drawn images are made of them, whatever the model takes
                read_image(path)
            else:
                files.read(path)
        return [self.digests.record(path, path.name) for path in images]

    # Running a stage

    def run(self, stage: Stage) -> Outcome:
        """Run `stage` and record it, unless the manifest says that the same work is done and its files are there."""
        before = self.done_before(stage)
        if before is not None:
            return log_outcome(Outcome(stage.name, before, skipped=True))
        log.info("%s: %s", stage.name, self.card.name)
        started = time.monotonic()
        with temporary_folder(self.workspace.folder) as folder:
            made = Workspace(folder, self.card.name)
            with writing(self.workspace.folder):
                made.folder.mkdir(parents=True)
            result = stage.make(made)
            with writing(self.workspace.folder):
                outputs = self._move_into_place(stage, made) if stage.recorded else []
        return self.finish(stage, outputs, result, started)

    def done_before(self, stage: Stage) -> Any:
        """The record for which `run` skips the stage; None if it runs it."""
        return self.find_reusable(stage) if stage.recorded and not self.force else None

    def find_reusable(self, stage: Stage) -> Any:
        """The record of the same work if it was done before, and its files are still there; else None."""
        options, tools = stage.options.as_record(), _versions_of(stage)
        return self.manifest.find_reusable(stage.name, stage.inputs, options, tools, self.digests)

    def is_same_work(self, record: StageRecord, stage: Stage) -> bool:
        """Whether `record` is of the same inputs, options and tools as `stage`."""
        return record.same_work(stage.inputs, stage.options.as_record(), _versions_of(stage))

    def finish(
        self, stage: Stage, outputs: Sequence[Path], result: Mapping[str, Any], started: float, *, skipped: bool = False
    ) -> Outcome:
        """Record a stage that is done, unless it is not to be recorded; `started` by time.monotonic."""
        return log_outcome(Outcome(stage.name, self.write_record(stage, outputs, result, started), skipped))

    def write_record(self, stage: Stage, outputs: Sequence[Path], result: Mapping[str, Any], started: float) -> Any:
        """The stage's record, as the manifest holds it from now on, if the stage is to be recorded."""
        record = RECORDS[stage.name].model_validate(
            {
                "inputs": stage.inputs,
                "options": stage.options.as_record(),
                "tools": _versions_of(stage),
                "outputs": self.records(outputs),
                "result": result,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - started, 3),
            }
        )
        if stage.recorded:
            self.manifest.write(stage.name, record)
            self._page_is_old = True
        return record

    def _move_into_place(self, stage: Stage, made: Workspace) -> list[Path]:
        """Move what `stage` made from the temporary workspace into the job's; returns the places.

        The manifest first drops what it says of files that go: a run that is killed between two moves leaves a mix,
        which the manifest must not vouch for.
        """
        folder = self.workspace.folder
        if stage.outputs is None:
            written = sorted(path for path in made.folder.rglob("*") if path.is_file())
            targets = [folder / path.relative_to(made.folder) for path in written]
        else:
            targets = list(stage.outputs)
            written = [made.folder / target.relative_to(folder) for target in targets]
        names = [target.relative_to(folder).as_posix() for target in targets]
        records = [self.digests.record(path, name) for path, name in zip(written, names)]
        self.manifest.drop_stages_using(records)
        move_into_place(written, targets)
        for record, target in zip(records, targets):
            self.digests.learn(target, record["sha256"])
        if stage.clears is not None:
            for other in set(stage.clears.rglob("*")) - set(targets):
                if other.is_file():
                    other.unlink()
            for inner in [path for path in stage.clears.rglob("*") if path.is_dir() and not any(path.iterdir())]:
                inner.rmdir()
        return targets

    # The report page

    def write_page(self) -> Path:
        """Write the report page from the manifest; ArtifactError if the manifest has no stage."""
        from pspnet_convert.report_page.page import write_report

        if not self.manifest.stages:
            raise ArtifactError(f"{self.workspace.manifest}: has no stage yet", "Run `pspnet-convert run` first.")
        write_report(self.manifest.document, self.workspace.folder, self.digests.of, self.workspace.report)
        self._page_is_old = False
        return self.workspace.report

    def update_page(self) -> None:
        """Write a page that is there again, if stages have run since."""
        if self._page_is_old and self.workspace.report.is_file():
            self.write_page()


@contextmanager
def open_job(asked: JobOptions, progress: Progress | None = None) -> Iterator[Job]:
    """The job that a user asked for. It holds the model's folder for as long as the block lasts.

    Without `progress`: the kind that `asked.progress` names; a bar goes to stderr. Raises CardError where there is no
    such model, OptionError where --config does not go with the rest, and the errors of lock_file.pinned.
    """
    digests = Digests()
    card, is_own = _find_card(asked, digests)
    with Workspace(asked.output_dir, card.name).locked():
        progress = progress or make_progress(asked.progress, sys.stderr)
        job = Job(pinned(card, asked.output_dir), asked, progress, digests)
        if is_own:
            from pspnet_convert.cards.own_model import keep_card

            keep_card(job.card, job.workspace.folder)
        try:
            yield job
        finally:
            job.update_page()


def card_of(asked: JobOptions) -> ModelCard:
    """The card of the model that a user asked for; CardError where there is none."""
    card, _ = _find_card(asked, Digests())
    return card


def _find_card(asked: JobOptions, digests: Digests) -> tuple[ModelCard, bool]:
    """The card of the model that a user asked for, and whether that is a model of the user's own."""
    from pspnet_convert.cards import catalog

    if asked.config is not None:
        return _own_card(asked, _checkpoint_of_config(asked), digests), True
    model = DEFAULT_MODEL if asked.model is None else asked.model
    card = model if isinstance(model, ModelCard) else catalog.find_card(model)
    alone = asked.checkpoint if asked.model is None and not asked.allow_unknown_checkpoint else None
    # A missing file is the default model's, and reported when it is read.
    if alone is not None and alone.is_file() and not card.checkpoint.accepts(digests.of(alone)):
        return _own_card(asked, alone, digests), True
    for name in OF_OWN_CARD:
        if getattr(asked, name) is not None:
            raise OptionError(f"--{name} is for your own model: the card of {card.name} has its own")
    return card.choosing(asked.weights, asked.prefix), False


def _own_card(asked: JobOptions, checkpoint: Path, digests: Digests) -> ModelCard:
    from pspnet_convert.cards.own_labels import Labels
    from pspnet_convert.cards.own_model import Given, own_card, with_kept_texts
    from pspnet_convert.pytorch.read_metadata import read_metadata

    given = Given(asked.name, Labels(asked.classes, asked.palette), asked.weights, asked.prefix)
    card = own_card(asked.config, checkpoint, read_metadata, given, digests.of)
    return with_kept_texts(card, Workspace(asked.output_dir, card.name).folder)


def _checkpoint_of_config(asked: JobOptions) -> Path:
    if asked.model is not None:
        raise OptionError(f"MODEL ({asked.model}) and --config are two models", "Give one of them.")
    if asked.allow_unknown_checkpoint:
        raise OptionError("--allow-unknown-checkpoint is not for --config: its checkpoint has no known digest")
    if asked.checkpoint is None:
        raise OptionError("--config needs the checkpoint that goes with it", "Give it with --checkpoint FILE.")
    return asked.checkpoint


def refuse_with_model(asked: JobOptions, why: str) -> None:
    """Raise OptionError for MODEL with an option that says which weights to export, where that is done."""
    for name in ("checkpoint", "weights", "prefix"):
        if asked.model is not None and getattr(asked, name) is not None:
            raise OptionError(f"--{name} is for --config here: {why}")


def _versions_of(stage: Stage) -> dict[str, str]:
    """The versions that the stage depends on. One without tools depends on none, this tool's included."""
    return versions(*stage.tools) if stage.tools else {}


def require(files: Sequence[Path], stage: str) -> None:
    """ArtifactError unless all `files`, which `stage` makes, are there."""
    for path in files:
        if not path.is_file():
            raise ArtifactError(
                f"{path}: is not there yet",
                f"Run `pspnet-convert {stage}` first, or `pspnet-convert run`, which runs all stages.",
            )


def log_outcome(outcome: Outcome) -> Outcome:
    """Log in one line how a stage went; returns `outcome`."""
    log.info("%s: %s", outcome.stage, "unchanged" if outcome.skipped else f"done in {outcome.seconds:.1f} s")
    return outcome
