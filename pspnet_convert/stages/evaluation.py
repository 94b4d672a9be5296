"""The stage evaluate: the mean IoU of the workspace's models on annotated images.

What is asked for is told by evaluation_inputs.py, counted by evaluate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pspnet_convert.evaluate import inputs as asked
from pspnet_convert.evaluate.chunks import ChunkSettings, run_locally
from pspnet_convert.evaluate.dataset import Entry, read_split
from pspnet_convert.evaluate.figures import count, evaluation
from pspnet_convert.evaluate.inputs import Choice
from pspnet_convert.evaluate.partials import Partials
from pspnet_convert.evaluate.ray_cluster import run_on_ray
from pspnet_convert.job import Job, Outcome, require
from pspnet_convert.manifest import digest_of, versions
from pspnet_convert.progress import steps
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.stages import tools


def evaluate(job: Job, choice: Choice, stage: str = "evaluate") -> Outcome:
    """Measure the workspace's models on annotated images; the figures are in the record's result, as `stage`'s."""
    protocol = asked.find_protocol(choice, job.card)
    folder = asked.find_dataset(choice, job.card)
    listed = read_split(folder, choice.split)
    subjects = asked.find_subjects(choice, job)
    asked.check_comparable(choice, job.card, protocol, subjects)
    models = {subject.name: _records(job, subject) for subject in subjects}
    images = asked.image_digests(listed[: choice.limit], job.digests.of)
    common = {"card": job.converted_card(), "shape": list(job.exported_shape())}
    options = {"protocol": protocol, "skip_bad": choice.skip_bad}

    def work() -> dict[str, Any]:
        depends_on = {**common, **options, "tools": versions(*tools.EVALUATION)}
        kept = job.workspace.folder / "evaluation"
        partials = Partials(kept, depends_on, models, images, resume=choice.resume)
        task = ChunkSettings(job.card, job.exported_shape(), protocol, choice.skip_bad, job.input_form())
        return _measure(job, task, subjects, listed, choice, partials)

    dataset = {"name": folder.name, "split": choice.split, "listed": len(listed), "images": digest_of(images)}
    # No count depends on the figure, but the result does: it holds the drops from it.
    stated = asked.stated_figure(job.card, protocol)
    return job.stage(
        stage,
        inputs={**common, "models": models, "dataset": dataset, "stated": stated},
        options=options,
        tools=tools.EVALUATION,
        outputs=[],
        work=work,
    )


def _records(job: Job, subject: ModelFile) -> list[dict[str, Any]]:
    """The files of a model to evaluate, with their digests; a checkpoint must be the card's."""
    if subject.path == job.original.path:
        return [job.checkpoint_record()]
    require(subject.parts, "to-ir")
    return job.records(subject.parts)


def _measure(
    job: Job,
    task: ChunkSettings,
    subjects: Sequence[ModelFile],
    listed: Sequence[Entry],
    choice: Choice,
    partials: Partials,
) -> dict[str, Any]:
    entries = listed[: choice.limit]
    over = run_locally if choice.ray is None else run_on_ray(choice.ray)
    with steps(job.progress, len(entries), "evaluating", stage="evaluate"):
        total = count(task, subjects, entries, partials, over, job.progress.advance)
    result = evaluation(task, len(listed), len(entries), total)
    partials.remove()
    return result.as_dict()
