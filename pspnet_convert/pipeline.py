"""The stages in order: download, export-onnx, to-ir, verify. The only place that knows it.

Each stage is skipped when the manifest says that it has done the same work and its files are as it left them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from pspnet_convert import __version__
from pspnet_convert.card import ModelCard
from pspnet_convert.contract import DEFAULT_OPSET, ImageShape
from pspnet_convert.errors import ArtifactError
from pspnet_convert.fetch import fetch, sources_of
from pspnet_convert.manifest import Digests, Manifest, StageRecord, digest_of, versions
from pspnet_convert.progress import Progress
from pspnet_convert.workspace import INT8, PRECISIONS, Workspace, replacing, temporary_folder, writing

if TYPE_CHECKING:
    from pspnet_convert.benchmark import Timing
    from pspnet_convert.candidates import ModelFile
    from pspnet_convert.checkpoint import Checkpoint
    from pspnet_convert.chunks import Task
    from pspnet_convert.dataset import Entry
    from pspnet_convert.evaluation_inputs import Choice
    from pspnet_convert.network import PSPNet
    from pspnet_convert.partials import Partials
    from pspnet_convert.tolerances import Precision
    from pspnet_convert.verify import Verification

_NETWORK_TOOLS = ("torch", "mmsegmentation", "mmengine", "mmcv", "mmcv-lite", "numpy")
_ONNX_TOOLS = ("onnx", "onnxscript", "onnx-ir")
_IR_TOOLS = ("openvino", "openvino-dev")
_INT8_TOOLS = ("nncf", "openvino", "numpy", "pillow")
_VERIFY_TOOLS = (*_NETWORK_TOOLS, "onnxruntime", *_IR_TOOLS)
_IMAGE_TOOLS = ("opencv-python", "opencv-python-headless", "pillow")
_EVALUATION_TOOLS = (*_VERIFY_TOOLS, *_IMAGE_TOOLS)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointChoice:
    """Which checkpoint to convert: the workspace's own (`path` None), or a file that the user has."""

    path: Optional[Path] = None
    allow_unknown: bool = False


@dataclass(frozen=True)
class Outcome:
    """A stage's record, and whether it was there already."""

    stage: str
    record: StageRecord
    skipped: bool

    def as_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "skipped": self.skipped, **asdict(self.record)}


class Conversion:
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
        self.manifest = Manifest(workspace.manifest, card)
        self._progress = progress
        self._choice = choice
        self._force = force
        self._digests = Digests()
        self._page_lags = False

    def download(self, sources: Sequence[str], *, allow_http_redirect: bool = False) -> Outcome:
        """Fetch the card's checkpoint into the workspace, from the first of `sources` or the card's that gives it."""
        wanted = self.card.checkpoint
        target = self.workspace.checkpoint(wanted.name)
        started = time.monotonic()
        try:
            fetched = fetch(
                wanted,
                target,
                sources_of(self.card, sources),
                self._progress,
                anew=self._force,
                allow_http_redirect=allow_http_redirect,
            )
        finally:
            self._progress.done()
        self._digests.learn(target, fetched.sha256)
        before = self.manifest.stage("download")
        # What the file is follows from the card; where it came from is told, not compared.
        work = StageRecord({"card": {"sha256": wanted.sha256, "size": wanted.size}}, {}, {})
        if fetched.already_there and before is not None and before.same_work(work):
            return self._tell(Outcome("download", before, skipped=True))
        record = self._finish(work, started, [target], {"source": _without_folders(fetched.source)})
        self._write("download", record)
        return self._tell(Outcome("download", record, skipped=fetched.already_there))

    def export_onnx(self, shape: Optional[ImageShape], opset: int, *, int32: bool, fold_pyramid: bool) -> Outcome:
        """The checkpoint's network as ONNX; at the card's shape where None is given."""
        shape = shape or self.card.input.shape
        target = self.workspace.onnx
        checkpoint = self._checkpoint_record()

        def work() -> dict[str, Any]:
            from pspnet_convert.onnx_export import ExportOptions, export_onnx

            options = ExportOptions(shape, opset, int32, fold_pyramid)
            network = self._network
            with self._replacing(target) as (temporary,):
                export_onnx(network, self.card, temporary, options, self._provenance(checkpoint["sha256"]))
            return {"checkpoint": self._about_checkpoint()}

        return self._stage(
            "export-onnx",
            inputs={"checkpoint": checkpoint, "card": self._converted_card()},
            options={"input_shape": list(shape), "opset": opset, "int32": int32, "fold_pyramid": fold_pyramid},
            tools=(*_NETWORK_TOOLS, *_ONNX_TOOLS),
            outputs=[target],
            work=work,
        )

    def to_ir(self, precisions: Sequence[str], mo_args: Mapping[str, Any]) -> Outcome:
        """The workspace's ONNX as IR, at each of `precisions`."""
        onnx = self.workspace.onnx
        self._expect(onnx, "export-onnx")
        targets = {precision: self.workspace.ir(precision) for precision in PRECISIONS if precision in precisions}

        def work() -> dict[str, Any]:
            from pspnet_convert.ir import convert_to_ir

            with self._replacing_irs(list(targets.values())) as made:
                convert_to_ir(onnx, self.card, dict(zip(targets, made)), mo_args)
            return {}

        return self._stage(
            "to-ir",
            inputs={"onnx": asdict(self._digests.record(onnx, onnx.name)), "card": self._converted_card()},
            options={"precisions": list(targets), "mo_args": dict(mo_args)},
            tools=_IR_TOOLS,
            outputs=[file for path in targets.values() for file in _ir_files(path)],
            work=work,
        )

    def verify(
        self,
        images: Sequence[Path],
        onnx: Sequence[Path] = (),
        irs: Sequence[Path] = (),
        *,
        at_default_precision: bool = False,
        save_diff: Optional[Path] = None,
    ) -> Outcome:
        """Compare the workspace's ONNX and IRs with the reference; the verdict is in the record's result.

        What each model saw lies in the workspace's `verification` folder afterwards. With `onnx` or `irs`, files from
        elsewhere, those are compared, at the card's shape, and workspace and manifest stay as they are. Pictures of
        what differs go to the folder `save_diff`.
        """
        from pspnet_convert.evidence import save_differences

        if not (onnx or irs):
            outcome = self._verify_own(images, at_default_precision)
            if save_diff is not None:
                save_differences(self.workspace.verification, outcome.record.result, save_diff)
            return outcome
        with temporary_folder(self.workspace.folder) as folder:
            outcome = self._verify_others(onnx, irs, images, at_default_precision, folder)
            if save_diff is not None:
                save_differences(folder, outcome.record.result, save_diff)
            return outcome

    def _verify_own(self, images: Sequence[Path], at_default_precision: bool) -> Outcome:
        from pspnet_convert.candidates import ModelFile

        self._expect(self.workspace.onnx, "export-onnx")
        files = [ModelFile("ONNX", self.workspace.onnx, "f32")]
        for precision in self._converted():
            claims: Precision = "FP16" if precision == "FP16" else "f32"
            files.append(ModelFile(f"IR {precision}", self.workspace.ir(precision), claims))
        for part in (part for file in files for part in file.parts):
            self._expect(part, "to-ir")
        pictures: list[Path] = []

        def work() -> dict[str, Any]:
            from pspnet_convert.evidence import write_pictures

            result = self._compare(files, self._exported_shape(), images, at_default_precision)
            pictures.extend(write_pictures(result, self.card, self.workspace.verification, self._replacing))
            return result.as_dict()

        return self._stage(
            "verify",
            inputs=self._compared(files, images),
            options={"at_default_precision": at_default_precision},
            tools=_VERIFY_TOOLS,
            outputs=pictures,
            work=work,
        )

    def _verify_others(
        self,
        onnx: Sequence[Path],
        irs: Sequence[Path],
        images: Sequence[Path],
        at_default_precision: bool,
        folder: Path,
    ) -> Outcome:
        from pspnet_convert.candidates import ModelFile
        from pspnet_convert.evidence import write_pictures
        from pspnet_convert.images import free_name

        taken: set[str] = set()
        files = [ModelFile(free_name(f"ONNX {path.name}", taken), path) for path in onnx]
        files += [ModelFile(free_name(f"IR {path.name}", taken), path) for path in irs]
        for part in (part for file in files for part in file.parts):
            if not part.is_file():
                raise ArtifactError(f"{part}: there is no such file", "An IR is an .xml with its .bin beside it.")
        options = {"at_default_precision": at_default_precision}
        planned = StageRecord(self._compared(files, images), options, versions(*_VERIFY_TOOLS))
        started = time.monotonic()
        result = self._compare(files, self.card.input.shape, images, at_default_precision)
        write_pictures(result, self.card, folder)
        return self._tell(Outcome("verify", self._finish(planned, started, [], result.as_dict()), skipped=False))

    def _compared(self, files: Sequence[ModelFile], images: Sequence[Path]) -> dict[str, Any]:
        return {
            "checkpoint": self._checkpoint_record(),
            "card": self._converted_card(),
            "models": self._models([part for file in files for part in file.parts]),
            "images": self._pictures(images),
        }

    def _models(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        return [asdict(self._digests.record(path, self._told(path))) for path in files]

    def _pictures(self, images: Sequence[Path]) -> list[dict[str, Any]]:
        """The records of pictures; ImageError for a file that is none."""
        from pspnet_convert.images import read_image

        for path in images:
            read_image(path)
        return [asdict(self._digests.record(path, path.name)) for path in images]

    def _told(self, path: Path) -> str:
        """A file as the manifest has it: by its place in the workspace, of one from elsewhere the name alone."""
        inside = path.is_relative_to(self.workspace.folder)
        return path.relative_to(self.workspace.folder).as_posix() if inside else path.name

    def quantize(self, calibration: Optional[Path], subset_size: int) -> Outcome:
        """The workspace's FP32 IR as INT8, calibrated with pictures of the folder `calibration`, or of the card."""
        from pspnet_convert.quantize import calibration_images

        ir, target = self.workspace.ir("FP32"), self.workspace.ir(INT8)
        for path in _ir_files(ir):
            self._expect(path, "to-ir")
        images = calibration_images(self.card, calibration, subset_size)

        def work() -> dict[str, Any]:
            from pspnet_convert.quantize import quantize

            shape = self._exported_shape()
            self._progress.start(len(images), "calibrating", stage="quantize", unit="images")
            try:
                with self._replacing_irs([target]) as (made,):
                    quantize(ir, self.card, shape, images, made, partial(self._progress.advance, 1))
            finally:
                self._progress.done()
            return {}

        return self._stage(
            "quantize",
            inputs={
                "models": self._models(_ir_files(ir)),
                "images": self._pictures(images),
                "card": self._converted_card(),
            },
            options={"subset_size": subset_size},
            tools=_INT8_TOOLS,
            outputs=_ir_files(target),
            work=work,
        )

    def verify_int8(self, calibration: Optional[Path], min_agreement: float) -> Outcome:
        """Compare the workspace's INT8 IR with the FP32 one, on a few pictures (checked_images).

        The verdict is in the record's result.
        """
        from pspnet_convert.quantize import checked_images

        irs = {precision: self.workspace.ir(precision) for precision in ("FP32", INT8)}
        files = [file for path in irs.values() for file in _ir_files(path)]
        images = checked_images(self.card, calibration)

        def work() -> dict[str, Any]:
            from pspnet_convert.int8_check import check_int8

            shape = self._exported_shape()
            self._progress.start(2 * len(images), "verifying", stage="verify-int8", unit="images")
            try:
                return check_int8(irs, self.card, shape, images, min_agreement, partial(self._progress.advance, 1))
            finally:
                self._progress.done()

        return self._stage(
            "verify-int8",
            inputs={
                "models": self._models(files),
                "images": self._pictures(images),
                "card": self._converted_card(),
            },
            options={"min_agreement": min_agreement},
            tools=_IR_TOOLS,
            outputs=[],
            work=work,
        )

    def evaluate_int8(self, dataset: Optional[Path]) -> Outcome:
        """The mean IoU of the FP32 and the INT8 IR in one pass, on `dataset`, or the card's."""
        from pspnet_convert.evaluation_inputs import Choice

        return self.evaluate(Choice(dataset=dataset, backends=("FP32", INT8)), "evaluate-int8")

    def evaluate(self, choice: Choice, stage: str = "evaluate") -> Outcome:
        """Measure the workspace's models on annotated images; the figures are in the record's result, as `stage`'s."""
        from pspnet_convert import evaluation_inputs as asked
        from pspnet_convert.dataset import read_split

        protocol = asked.find_protocol(choice, self.card)
        folder = asked.find_dataset(choice, self.card)
        listed = read_split(folder, choice.split)
        subjects = asked.find_subjects(choice, self.workspace, self._checkpoint_path)
        asked.check_comparable(choice, self.card, protocol, subjects)
        models = {subject.name: self._model_records(subject) for subject in subjects}
        images = asked.image_digests(listed[: choice.limit], self._digests.of)
        common = {"card": self._converted_card(), "shape": list(self._exported_shape())}
        options = {"protocol": protocol, "skip_bad": choice.skip_bad}

        def work() -> dict[str, Any]:
            from pspnet_convert.chunks import Task
            from pspnet_convert.partials import Partials

            depends_on = {**common, **options, "tools": versions(*_EVALUATION_TOOLS)}
            kept = self.workspace.folder / "evaluation"
            partials = Partials(kept, depends_on, models, images, resume=choice.resume)
            task = Task(self.card, self._exported_shape(), protocol, choice.skip_bad)
            return self._measure(task, subjects, listed, choice, partials)

        dataset = {"name": folder.name, "split": choice.split, "images": digest_of(images)}
        return self._stage(
            stage,
            inputs={**common, "models": models, "dataset": dataset},
            options=options,
            tools=_EVALUATION_TOOLS,
            outputs=[],
            work=work,
        )

    def _measure(
        self, task: Task, subjects: Sequence[ModelFile], listed: Sequence[Entry], choice: Choice, partials: Partials
    ) -> dict[str, Any]:
        from pspnet_convert.chunks import here
        from pspnet_convert.cluster import on_cluster
        from pspnet_convert.evaluate import count, evaluation

        entries = listed[: choice.limit]
        over = here if choice.ray is None else on_cluster(choice.ray)
        self._progress.start(len(entries), "evaluating", stage="evaluate", unit="images")
        try:
            total = count(task, subjects, entries, partials, over, self._progress.advance)
        finally:
            self._progress.done()
        result = evaluation(task, len(listed), len(entries), total)
        partials.remove()
        return result.as_dict()

    def _model_records(self, subject: ModelFile) -> list[dict[str, Any]]:
        """The files of a model to evaluate, with their digests; a checkpoint must be the card's."""
        if subject.path == self._checkpoint_path:
            return [self._checkpoint_record()]
        for part in subject.parts:
            self._expect(part, "to-ir")
        return self._models(subject.parts)

    def report(self) -> Path:
        """Write the page of what the manifest has; ArtifactError if that is nothing."""
        from pspnet_convert.report import write_report

        manifest = self.manifest.as_dict()
        if not manifest["stages"]:
            raise ArtifactError(f"{self.workspace.manifest}: tells of no stage yet", "Run run first.")
        write_report(manifest, self.workspace.folder, self._digests.of, self.workspace.report)
        self._page_lags = False
        return self.workspace.report

    def keep_page_true(self) -> None:
        """Write a page that is there anew where it tells of stages that have been done again since."""
        if self._page_lags and self.workspace.report.is_file():
            self.report()

    def benchmark(self, rounds: int, *, int8: bool = False) -> list[Timing]:
        """Time each graph, converted anew, so that nothing in the workspace changes; `int8`: and the folded in INT8."""
        from pspnet_convert.benchmark import GRAPHS, benchmark, subjects

        checkpoint = self._checkpoint_record()
        shape = self.card.input.shape
        with temporary_folder(self.workspace.folder) as folder:
            models = {}
            for graph in GRAPHS:
                log.info("benchmark: converting the %s graph", graph)
                with writing(self.workspace.folder):
                    models[graph] = self._convert_into(folder / graph, graph, checkpoint["sha256"])
            if int8:
                log.info("benchmark: quantizing the folded graph")
                _, irs = models["folded"]
                with writing(self.workspace.folder):
                    irs[INT8] = self._quantize_beside(irs["FP32"])
            self._release_network()
            chosen = subjects(self._checkpoint_path, models)
            self._progress.start(len(chosen) * (rounds + 1), "timing", stage="benchmark", unit="turns")
            try:
                graphs = {graph: onnx for graph, (onnx, _) in models.items()}
                return benchmark(self.card, shape, chosen, graphs, rounds, partial(self._progress.advance, 1))
            finally:
                self._progress.done()

    def _convert_into(self, folder: Path, graph: str, sha256: str) -> tuple[Path, dict[str, Path]]:
        from pspnet_convert.ir import convert_to_ir
        from pspnet_convert.onnx_export import ExportOptions, export_onnx, export_plainly

        folder.mkdir()
        onnx = folder / "model.onnx"
        irs = {precision: folder / f"{precision}.xml" for precision in PRECISIONS}
        if graph == "plain":
            export_plainly(self._network, self.card, onnx)
        else:
            options = ExportOptions(self.card.input.shape, fold_pyramid=graph == "folded")
            export_onnx(self._network, self.card, onnx, options, self._provenance(sha256))
        convert_to_ir(onnx, self.card, irs, {})
        return onnx, irs

    def _quantize_beside(self, ir: Path) -> Path:
        from pspnet_convert.quantize import DEFAULT_SUBSET, calibration_images, quantize

        target = ir.with_name(f"{INT8}.xml")
        images = calibration_images(self.card, None, DEFAULT_SUBSET)
        quantize(ir, self.card, self.card.input.shape, images, target)
        return target

    def _converted(self) -> list[str]:
        """The precisions of the last to-ir; all where the manifest has none. Older IRs are left, and told of."""
        record = self.manifest.stage("to-ir")
        if record is None:
            return list(PRECISIONS)
        precisions = record.options["precisions"]
        for left in PRECISIONS:
            if left not in precisions and self.workspace.ir(left).exists():
                log.warning("%s is of an earlier conversion, and is not verified", self.workspace.ir(left))
        return list(precisions)

    def _compare(
        self, files: Sequence[ModelFile], shape: ImageShape, images: Sequence[Path], at_default_precision: bool
    ) -> Verification:
        from pspnet_convert.candidates import candidates
        from pspnet_convert.reference import expect
        from pspnet_convert.verification_inputs import verification_inputs
        from pspnet_convert.verify import verify

        inputs = verification_inputs(self.card, shape, images)
        compared = candidates(files, self.card, shape, at_default_precision=at_default_precision)
        self._progress.start(len(inputs) * (1 + len(compared)), "verifying", stage="verify", unit="images")
        note = partial(self._progress.advance, 1)
        try:
            return verify(
                lambda batch: expect(self._last_use_of_the_network(), self.card, batch, note),
                compared,
                inputs,
                len(self.card.classes),
                note,
            )
        finally:
            self._progress.done()

    def _exported_shape(self) -> ImageShape:
        """What export-onnx was asked for; the card's where the manifest has no such stage."""
        record = self.manifest.stage("export-onnx")
        if record is None:
            return self.card.input.shape
        height, width = record.options["input_shape"][2:]
        return 1, 3, height, width

    def _last_use_of_the_network(self) -> PSPNet:
        """When the one who asked is done with it, its weights go, before the converted models come."""
        network = self._network
        self._release_network()
        return network

    def _release_network(self) -> None:
        del self._network, self._checkpoint

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        from pspnet_convert.checkpoint import load_checkpoint

        return load_checkpoint(self._checkpoint_path, self.card)

    @cached_property
    def _network(self) -> PSPNet:
        from pspnet_convert.network import build_network

        return build_network(self.card, self._checkpoint)

    @property
    def _checkpoint_path(self) -> Path:
        return self._choice.path or self.workspace.checkpoint(self.card.checkpoint.name)

    def _checkpoint_record(self) -> dict[str, Any]:
        from pspnet_convert.checkpoint import identify

        path = self._checkpoint_path
        identify(path, self.card.checkpoint, self._digests.of, allow_unknown=self._choice.allow_unknown)
        record = self._digests.record(path, path.name)
        return {**asdict(record), "is_the_cards": record.sha256 == self.card.checkpoint.sha256}

    def _about_checkpoint(self) -> dict[str, Any]:
        checkpoint = self._checkpoint
        return {
            "metadata": asdict(checkpoint.metadata),
            "dropped_keys": list(checkpoint.dropped_keys),
            "warnings": list(checkpoint.warnings),
        }

    def _converted_card(self) -> dict[str, Any]:
        """What of the card changes the artifacts: another description or figure is no reason to convert again."""
        return self.card.model_dump(
            mode="json", include={"name", "config", "config_overrides", "input", "output", "classes"}
        )

    def _provenance(self, checkpoint_sha256: str) -> dict[str, str]:
        return {
            "name": self.card.name,
            "checkpoint_sha256": checkpoint_sha256,
            "classes": ",".join(self.card.class_names),
            "tool": f"pspnet-convert {__version__}",
        }

    def _expect(self, path: Path, stage: str) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path}: is not there yet", f"Run {stage} first, or run, which does all stages.")

    def _stage(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        tools: Sequence[str],
        outputs: Sequence[Path],
        work: Callable[[], dict[str, Any]],
    ) -> Outcome:
        planned = StageRecord(inputs, options, versions(*tools))
        before = None if self._force else self.manifest.done_before(name, planned, self._digests)
        if before is not None:
            return self._tell(Outcome(name, before, skipped=True))
        log.info("%s: %s", name, self.card.name)
        started = time.monotonic()
        record = self._finish(planned, started, outputs, work())
        self._write(name, record)
        return self._tell(Outcome(name, record, skipped=False))

    def _write(self, name: str, record: StageRecord) -> None:
        self.manifest.write(name, record)
        self._page_lags = True

    @contextmanager
    def _replacing_irs(self, targets: Sequence[Path]) -> Iterator[list[Path]]:
        """Paths of .xml to write, each with its .bin beside it; they take the places of `targets` as in _replacing."""
        with self._replacing(*(file for path in targets for file in _ir_files(path))) as made:
            # Both halves in one folder, since the .xml names no .bin and expects it beside.
            written = [path.with_suffix(".xml") for path in made[::2]]
            yield written
            for path, target in zip(written, made[1::2]):
                path.replace(target)

    @contextmanager
    def _replacing(self, *targets: Path) -> Iterator[list[Path]]:
        """workspace.replacing, before whose moves the manifest forgets what it says of files that go.

        A run that is killed between two moves leaves a mix, which the manifest must not vouch for.
        """
        with replacing(*targets) as made:
            yield made
            records = [self._digests.record(path, self._told(target)) for path, target in zip(made, targets)]
            self.manifest.retract(records)
        for record, target in zip(records, targets):
            self._digests.learn(target, record.sha256)

    def _finish(
        self, planned: StageRecord, started: float, outputs: Sequence[Path], result: Mapping[str, Any]
    ) -> StageRecord:
        return replace(
            planned,
            outputs=[self._digests.record(path, self._told(path)) for path in outputs],
            result=result,
            finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 3),
        )

    @staticmethod
    def _tell(outcome: Outcome) -> Outcome:
        log.info("%s: %s", outcome.stage, "unchanged" if outcome.skipped else f"done in {outcome.record.seconds:.1f} s")
        return outcome


@contextmanager
def conversion(
    card: ModelCard,
    output_dir: Path,
    progress: Progress,
    choice: CheckpointChoice = CheckpointChoice(),
    *,
    force: bool = False,
) -> Iterator[Conversion]:
    """A Conversion that holds the model's folder below `output_dir` for as long as the block lasts."""
    workspace = Workspace(output_dir, card.name)
    with workspace.locked():
        job = Conversion(card, workspace, progress, choice, force=force)
        try:
            yield job
        finally:
            job.keep_page_true()


def run(
    job: Conversion,
    *,
    sources: Sequence[str] = (),
    allow_http_redirect: bool = False,
    shape: Optional[ImageShape] = None,
    opset: int = DEFAULT_OPSET,
    int32: bool = False,
    fold_pyramid: bool = True,
    precisions: Sequence[str] = PRECISIONS,
    mo_args: Optional[Mapping[str, Any]] = None,
    images: Sequence[Path] = (),
    download: bool = True,
) -> list[Outcome]:
    """All stages and the page; `download` is False where the user has given a checkpoint."""
    outcomes = [job.download(sources, allow_http_redirect=allow_http_redirect)] if download else []
    outcomes.append(job.export_onnx(shape, opset, int32=int32, fold_pyramid=fold_pyramid))
    outcomes.append(job.to_ir(precisions, mo_args or {}))
    outcomes.append(job.verify(images))
    job.report()
    return outcomes


def _ir_files(path: Path) -> list[Path]:
    """Both halves of an IR, of which `path` is the .xml."""
    return [path.with_suffix(".bin"), path]


def _without_folders(source: Optional[str]) -> Optional[str]:
    """A source as the manifest has it: a URL as it is, of a place on this machine the name alone."""
    if source is None or source.startswith(("http://", "https://")):
        return source
    return Path(source).name
