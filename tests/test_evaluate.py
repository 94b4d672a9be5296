"""`evaluate`: the models' scores, resumed or in one go, on this machine or on a cluster; and its errors."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import manifests
import numpy as np
import pytest
import voc
import yaml
from conftest import Cli

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.chunks import Chunk, ChunkSettings, Opened, Tally, count_chunk
from pspnet_convert.commands.evaluate.dataset import find_data
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.figures import CHUNK, count
from pspnet_convert.commands.evaluate.meaning import meaning_of
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.commands.evaluate.partials import Partials
from pspnet_convert.commands.evaluate.protocols import open_protocol
from pspnet_convert.commands.evaluate.ray_cluster import run_on_ray
from pspnet_convert.commands.evaluate.stage import evaluate_stage
from pspnet_convert.errors import ArtifactError, ClusterError
from pspnet_convert.job import open_job
from pspnet_convert.job_options import JobOptions
from pspnet_convert.progress import Silent
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import build_network
from pspnet_convert.runtimes.backends import TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.merging import Answer
from pspnet_convert.runtimes.model_file import ModelFile

SHAPE = (1, 3, 72, 64)
MANY = 2 * CHUNK + 10


@pytest.fixture(scope="module")
def dataset(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the model's size; PyTorch's own label maps are the annotations, so that it is never wrong."""
    folder = tmp_path_factory.mktemp("voc")
    backend = TorchBackend(
        build_network(small, load_checkpoint(small.folder / small.checkpoint.name, small)), small.input
    )
    for number in range(4):
        image = voc.drawing(72, 64, number)
        labels = next(backend.run([image[:, :, ::-1]])).labels.astype(np.uint8)
        labels[:9, :9] = 255
        voc.add(folder, small, f"{number:03}", image, labels)
    return folder


@pytest.fixture(scope="module")
def many(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chunks of images, the last not full."""
    sizes = [(30 + number % 50, 80 - number % 40) for number in range(MANY)]
    return voc.write(tmp_path_factory.mktemp("many"), small, sizes)


def entries_of(dataset: Path, card: ModelCard) -> Sequence[Entry]:
    return find_data(EvaluateOptions(dataset), card).entries


def settings_of(dataset: Path, card: ModelCard) -> ChunkSettings:
    options = EvaluateOptions(dataset)
    meaning = meaning_of(options, card, find_data(options, card))
    return ChunkSettings(card, meaning, SHAPE, "pad", skip_bad=False)


def folder_of(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def subjects_in(workspace: Path) -> list[ModelFile]:
    folder = folder_of(workspace)
    irs = [ModelFile(f"IR {name}", folder / name / "small-standin.xml") for name in ("FP32", "FP16")]
    return [ModelFile("ONNX", folder / "small-standin.onnx"), *irs]


# Figures


@pytest.mark.parametrize("protocol", ["crop", "pad", "mmseg"])
def test_every_model_of_the_workspace_scores_what_the_reference_does(
    cli: Cli, small: ModelCard, workspace: Path, dataset: Path, protocol: str
) -> None:
    arguments = ["--dataset", dataset, "--protocol", protocol, "--max-drop", "5", "--json"]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments)
    assert result.exit_code == 0, result.stderr
    told = result.json()
    assert told["inputs"]["dataset"]["name"] == dataset.name
    found = told["result"]
    assert (found["protocol"], found["images"], found["listed"]) == (protocol, 4, 4)
    assert (found["reference"], found["stated"]) == ("PyTorch", None)
    scores = {score["backend"]: score for score in found["scores"]}
    assert list(scores) == ["PyTorch", "ONNX", "IR FP32", "IR FP16"]
    for score in scores.values():
        assert score["drop"] == pytest.approx(scores["PyTorch"]["mean_iou"] - score["mean_iou"])
    best = scores["PyTorch"]["mean_iou"]
    assert scores["ONNX"]["mean_iou"] == best
    if protocol == "mmseg":
        assert best == 100  # the annotations are the reference's own label maps, and the images have its size
    elif protocol == "pad":  # as the accuracy_checker counts, 255 is background
        assert scores["PyTorch"]["mean_iou_without_void"] == 100 > best
    assert scores["IR FP32"]["mean_iou"] == pytest.approx(best, abs=0.02)
    assert scores["IR FP16"]["pixel_accuracy"] == pytest.approx(scores["PyTorch"]["pixel_accuracy"], abs=1)


def test_an_int8_model_is_taken_if_it_is_there(
    cli: Cli, small: ModelCard, quantized: Path, dataset: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(quantized, tmp_path / "out")
    result = cli("evaluate", small.folder, "-o", folder, "--dataset", dataset, "--protocol", "pad", "--json")
    scores = {score["backend"]: score["mean_iou"] for score in result.json()["result"]["scores"]}
    assert list(scores) == ["PyTorch", "ONNX", "IR FP32", "IR FP16", "IR INT8"]
    assert 0 < scores["IR INT8"] < scores["IR FP16"]


def test_backends_and_a_limit_may_be_chosen(cli: Cli, small: ModelCard, workspace: Path, dataset: Path) -> None:
    arguments = ["--dataset", dataset, "--backend", "FP16", "--backend", "onnx", "--limit", 3]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments, "--json").json()["result"]
    assert [score["backend"] for score in result["scores"]] == ["ONNX", "IR FP16"]
    assert (result["images"], result["listed"], result["reference"]) == (3, 4, None)
    told = cli("evaluate", small.folder, "-o", workspace, *arguments).stdout
    assert "Mean IoU on 3 of 4 images" in told
    assert all(name in told for name in small.class_names)


def test_what_has_not_changed_is_not_measured_again(cli: Cli, small: ModelCard, workspace: Path, many: Path) -> None:
    copy = shutil.copytree(many, workspace / "voc")
    arguments = ("evaluate", small.folder, "-o", workspace, "--dataset", copy, "--protocol", "pad", "--backend", "ONNX")
    arguments += ("--json",)
    first, again = cli(*arguments).json(), cli(*arguments).json()
    assert (first["skipped"], again["skipped"]) == (False, True)
    assert again["result"] == first["result"]
    assert cli(*arguments, "--force").json()["skipped"] is False
    manifest = json.loads((folder_of(workspace) / "manifest.json").read_text())
    assert manifest["stages"]["evaluate"]["result"] == first["result"]
    shutil.copy(voc.annotation_of(copy, "001"), voc.annotation_of(copy, "051"))
    changed = cli(*arguments, "--skip-bad").json()
    assert changed["skipped"] is False


def test_a_changed_figure_of_the_card_is_used(
    cli: Cli, small: ModelCard, workspace: Path, dataset: Path, tmp_path: Path
) -> None:
    data = yaml.safe_load((small.folder / "model.yml").read_text())
    card = tmp_path / "model.yml"

    def evaluated(value: float) -> Any:
        figure = {"metric": "mean_iou", "value": value, "dataset": "x", "protocol": "pad", "measured_by": "x"}
        card.write_text(yaml.safe_dump({**data, "accuracy": [figure]}))
        return cli("evaluate", card, "-o", workspace, "--dataset", dataset, "--backend", "ONNX", "--json").json()

    assert evaluated(50.0)["result"]["stated"] == 50.0
    changed, again = evaluated(60.0), evaluated(60.0)
    assert (changed["skipped"], changed["result"]["stated"]) == (False, 60.0)
    assert again["skipped"] is True


@pytest.mark.parametrize(
    ("figures", "testing", "protocol"), [([], True, "mmseg"), ([], False, "crop"), (["pad", "mmseg"], True, "pad")]
)
def test_without_a_protocol_it_is_what_the_help_says(
    cli: Cli,
    small: ModelCard,
    workspace: Path,
    dataset: Path,
    tmp_path: Path,
    figures: list[str],
    testing: bool,
    protocol: str,
) -> None:
    data = yaml.safe_load((small.folder / "model.yml").read_text())
    card = tmp_path / "model.yml"
    common = {"metric": "mean_iou", "value": 50.0, "dataset": "x", "measured_by": "x"}
    data = {**data, "accuracy": [{**common, "protocol": name} for name in figures]}
    card.write_text(yaml.safe_dump(data if testing else {key: data[key] for key in data if key != "testing"}))
    result = cli("evaluate", card, "-o", workspace, "--dataset", dataset, "--backend", "ONNX", "--json")
    assert result.json()["result"]["protocol"] == protocol
    told = " ".join(cli("evaluate", "--help").stdout.split())
    assert "that of the card's first figure, else mmseg, else crop" in told


def test_a_longer_list_is_noticed_in_a_limited_evaluation(
    cli: Cli, small: ModelCard, workspace: Path, dataset: Path
) -> None:
    copy = shutil.copytree(dataset, workspace / "voc")
    arguments = ["--dataset", copy, "--backend", "ONNX", "--limit", 2, "--json"]
    assert cli("evaluate", small.folder, "-o", workspace, *arguments).json()["result"]["listed"] == 4
    names = copy / "ImageSets" / "Segmentation" / "val.txt"
    names.write_text(names.read_text() + "another\n")
    assert cli("evaluate", small.folder, "-o", workspace, *arguments).json()["result"]["listed"] == 5


def test_the_progress_says_what_the_mean_iou_is_so_far(
    cli: Cli, small: ModelCard, workspace: Path, dataset: Path
) -> None:
    arguments = ["--dataset", dataset, "--backend", "FP32", "--progress", "json"]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments)
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert {event["event"] for event in events} == {"evaluate"}
    assert [events[0]["images"], events[-1]["images"], events[-1]["total"]] == [0, 4, 4]
    assert events[-1]["state"].startswith("IR FP32 ")
    (score,) = manifests.read(folder_of(workspace))["stages"]["evaluate"]["result"]["scores"]
    assert events[-1]["state"] == f"IR FP32 {score['mean_iou']:.2f} %"


# Drops


@pytest.fixture
def spoilt(workspace: Path) -> Path:
    """The workspace, with an FP16 IR in which some of the weights are changed."""
    path = folder_of(workspace) / "FP16" / "small-standin.bin"
    weights = np.frombuffer(path.read_bytes(), np.uint8).copy()
    weights[: len(weights) // 2 : 16] ^= 0x40
    path.write_bytes(weights.tobytes())
    return workspace


def test_a_model_that_is_worse_than_allowed_is_exit_16(cli: Cli, small: ModelCard, spoilt: Path, dataset: Path) -> None:
    arguments = ("evaluate", small.folder, "-o", spoilt, "--dataset", dataset, "--protocol", "pad", "--json")
    result = cli(*arguments, "--max-drop", 5)
    assert result.exit_code == 16
    drop = result.json()["result"]["scores"][3]["drop"]
    assert drop > 5
    assert f"IR FP16 is {drop:.2f} points below PyTorch, 5 allowed" in result.error
    assert cli(*arguments, "--max-drop", drop + 0.01).exit_code == 0
    assert cli(*arguments).exit_code == 0


def test_without_pytorch_the_drop_is_from_the_cards_figure(
    cli: Cli, small: ModelCard, workspace: Path, dataset: Path, tmp_path: Path
) -> None:
    data = yaml.safe_load((small.folder / "model.yml").read_text())
    figure = {"metric": "mean_iou", "value": 90.0, "dataset": "x", "protocol": "pad", "measured_by": "x"}
    card = tmp_path / "model.yml"
    card.write_text(yaml.safe_dump({**data, "accuracy": [figure]}))
    voc_folder = voc.write(tmp_path / "voc", small, [(72, 64)] * 2)  # annotations that do not match the images
    arguments = ("evaluate", card, "-o", workspace, "--dataset", voc_folder, "--max-drop", 20)
    result = cli(*arguments, "--backend", "FP32")
    assert result.exit_code == 16
    assert "points below the card, 20 allowed" in result.error
    assert "protocol pad" in result.stdout  # the protocol of the card's figure
    # PyTorch is as bad on these. If it is evaluated, the other models are compared with it.
    assert cli(*arguments).exit_code == 0


def test_a_drop_without_a_figure_to_compare_with_is_refused(
    cli: Cli, small: ModelCard, workspace: Path, dataset: Path
) -> None:
    arguments = ["--dataset", dataset, "--backend", "FP32", "--max-drop", 1]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments)
    assert result.exit_code == 3
    assert "the card has no figure for protocol mmseg. Evaluate PyTorch in the same pass" in result.error


# Models


def test_a_model_that_is_not_there(cli: Cli, small: ModelCard, workspace: Path, dataset: Path) -> None:
    result = cli("evaluate", small.folder, "-o", workspace, "--dataset", dataset, "--backend", "INT8")
    assert result.exit_code == 11
    assert "INT8/small-standin.xml: there is no such model" in result.error


def test_an_empty_workspace(cli: Cli, small: ModelCard, dataset: Path, tmp_path: Path) -> None:
    result = cli("evaluate", small.folder, "-o", tmp_path, "--dataset", dataset)
    assert result.exit_code == 11
    assert "public/small-standin: there is no such model. Run `pspnet-convert run` first" in result.error


def test_an_ir_without_its_weights(cli: Cli, small: ModelCard, workspace: Path, dataset: Path) -> None:
    (folder_of(workspace) / "FP16" / "small-standin.bin").unlink()
    result = cli("evaluate", small.folder, "-o", workspace, "--dataset", dataset)
    assert result.exit_code == 11
    assert "FP16/small-standin.bin: is not there yet. Run `pspnet-convert to-ir` first" in result.error


def test_a_checkpoint_that_is_not_the_cards(cli: Cli, small: ModelCard, workspace: Path, dataset: Path) -> None:
    path = folder_of(workspace) / small.checkpoint.name
    path.write_bytes(path.read_bytes() + b"x")
    result = cli("evaluate", small.folder, "-o", workspace, "--dataset", dataset)
    assert result.exit_code == 5


@pytest.mark.parametrize("backend", ["ONNX", "FP32"])
def test_pictures_of_another_size_are_for_pytorch_alone(
    cli: Cli, small: ModelCard, workspace: Path, many: Path, backend: str
) -> None:
    arguments = ["--dataset", many, "--limit", 2, "--protocol", "mmseg"]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments, "--backend", backend, "--skip-bad")
    assert result.exit_code == 11
    assert "the model takes only 64x72, and protocol mmseg gives " in result.error
    assert "Use --protocol crop or pad, or evaluate only PyTorch (--backend PyTorch)" in result.error
    every = cli("evaluate", small.folder, "-o", workspace, *arguments, "--json")
    assert every.exit_code == 0
    assert [score["backend"] for score in every.json()["result"]["scores"]] == ["PyTorch"]
    assert list(every.json()["result"]["left_out"]) == ["ONNX", "IR FP32", "IR FP16"]
    limited = cli("evaluate", small.folder, "-o", workspace, *arguments, "--max-drop", 1)
    assert limited.exit_code == 11  # a limit on no model would pass
    assert "not evaluated: the model takes only 64x72" in every.stderr


def test_a_model_of_more_classes_than_the_card(small: ModelCard, dataset: Path) -> None:
    class FiveAndOne:
        at_once = 1
        align_corners = False

        def start(self, image: Image) -> Callable[[], Answer]:
            return lambda: Answer(np.full(image.shape[:2], 5))

    subject = ModelFile("ONNX", Path("x.onnx"))
    work = Chunk(entries_of(dataset, small), [subject])
    opened = Opened(open_protocol("pad", small, SHAPE[2:]), {subject: FiveAndOne()})
    with pytest.raises(ArtifactError, match=r"x\.onnx: gives class 5, but the card has 5 classes"):
        count_chunk(settings_of(dataset, small), work, opened)


# Interrupted and resumed


class InterruptedAt(Silent):
    """As if the user had pressed Ctrl-C after this number of images."""

    def __init__(self, images: int) -> None:
        self.left = images

    def advance(self, units: int, state: str = "") -> None:
        self.left -= units
        if self.left <= 0:
            raise KeyboardInterrupt


class Counter(Silent):
    """Records the number of images in each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def advance(self, units: int, state: str = "") -> None:
        self.steps.append(units)


def interrupt(small: ModelCard, workspace: Path, many: Path, images: int, resume: bool = False) -> None:
    choice = EvaluateOptions(many, protocol="pad", backend=("ONNX", "FP32"), resume=resume)
    with (
        pytest.raises(KeyboardInterrupt),
        open_job(JobOptions(model=small, output_dir=workspace), InterruptedAt(images)) as job,
    ):
        job.run(evaluate_stage(job, choice))


def partials_in(workspace: Path) -> list[Path]:
    return sorted((folder_of(workspace) / "evaluation").glob("*.json"))


def evaluate_many(cli: Cli, small: ModelCard, workspace: Path, many: Path, *more: str) -> None:
    arguments = ["--dataset", many, "--protocol", "pad", "--backend", "ONNX", "--backend", "FP32"]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments, *more)
    assert result.exit_code == 0, result.stderr


def scores(workspace: Path) -> object:
    return json.loads((folder_of(workspace) / "manifest.json").read_text())["stages"]["evaluate"]["result"]


def test_an_interrupted_evaluation_goes_on_and_comes_to_the_same(
    cli: Cli, small: ModelCard, workspace: Path, many: Path
) -> None:
    evaluate_many(cli, small, workspace, many)
    expected = scores(workspace)
    (folder_of(workspace) / "manifest.json").unlink()
    interrupt(small, workspace, many, CHUNK + 5)
    assert len(partials_in(workspace)) == 2  # one chunk of each model
    interrupt(small, workspace, many, 2 * CHUNK + 1, resume=True)
    assert len(partials_in(workspace)) == 4
    counted = Counter()
    with open_job(JobOptions(model=small, output_dir=workspace), counted) as job:
        job.run(evaluate_stage(job, EvaluateOptions(many, protocol="pad", backend=("ONNX", "FP32"), resume=True)))
    assert counted.steps == [2 * CHUNK] + [1] * (MANY - 2 * CHUNK) + [0]
    assert scores(workspace) == expected
    assert partials_in(workspace) == []


def kept(small: ModelCard, workspace: Path, many: Path, tmp_path: Path, *, resume: bool = True) -> Partials:
    models = {subject.name: subject.name for subject in subjects_in(workspace)}
    images = {entry.name: entry.name for entry in entries_of(many, small)}
    return Partials(tmp_path / "kept", {"protocol": "pad"}, models, images, resume=resume)


def test_without_resume_it_starts_again(small: ModelCard, workspace: Path, many: Path, tmp_path: Path) -> None:
    entries, (onnx, *_) = entries_of(many, small), subjects_in(workspace)
    tally = Tally({"ONNX": np.arange(35).reshape(7, 5)}, {"003": "why"}, {"004": 7}, {"005"})
    kept(small, workspace, many, tmp_path).keep(entries, onnx, tally)
    found = kept(small, workspace, many, tmp_path).find(entries, onnx)
    assert found is not None
    assert np.array_equal(found.confusions["ONNX"], tally.confusions["ONNX"])
    assert (found.skipped, found.unknown, found.masks) == (tally.skipped, tally.unknown, tally.masks)
    assert kept(small, workspace, many, tmp_path, resume=False).find(entries, onnx) is None


@pytest.mark.parametrize("what", ["protocol", "model", "image", "chunk", "backend"])
def test_partial_results_of_other_work_are_not_used(
    small: ModelCard, workspace: Path, many: Path, tmp_path: Path, what: str
) -> None:
    entries, (onnx, fp32, _) = entries_of(many, small), subjects_in(workspace)
    models = {subject.name: subject.name for subject in subjects_in(workspace)}
    images = {entry.name: entry.name for entry in entries}
    common = {"protocol": "pad"}
    tally = Tally({"ONNX": np.arange(35).reshape(7, 5)})
    Partials(tmp_path, common, models, images, resume=True).keep(entries, onnx, tally)
    if what == "protocol":
        common["protocol"] = "crop"
    elif what == "model":
        models["ONNX"] = "other"
    elif what == "image":
        images["005"] = "other"
    again = Partials(tmp_path, common, models, images, resume=True)
    assert again.find(entries[:-1] if what == "chunk" else entries, fp32 if what == "backend" else onnx) is None


def test_a_complete_evaluation_keeps_the_partial_results_of_others(
    cli: Cli, small: ModelCard, workspace: Path, many: Path
) -> None:
    interrupt(small, workspace, many, CHUNK + 5)
    others = partials_in(workspace)
    evaluate_many(cli, small, workspace, many, "--limit", "2")
    assert partials_in(workspace) == others != []
    for suffix in (".xml", ".bin"):  # another IR of the same ONNX
        folder = folder_of(workspace)
        shutil.copy(folder / "FP16" / f"small-standin{suffix}", folder / "FP32" / f"small-standin{suffix}")
    evaluate_many(cli, small, workspace, many, "--limit", "2")
    (of_the_onnx,) = partials_in(workspace)
    assert of_the_onnx in others
    assert "ONNX" in of_the_onnx.read_text()


def test_a_damaged_partial_result_is_counted_again(cli: Cli, small: ModelCard, workspace: Path, many: Path) -> None:
    evaluate_many(cli, small, workspace, many)
    expected = scores(workspace)
    (folder_of(workspace) / "manifest.json").unlink()
    interrupt(small, workspace, many, CHUNK + 5)
    for path, content in zip(partials_in(workspace), ("{", '{"confusion": "x"}')):
        path.write_text(content)
    result = cli(
        *("evaluate", small.folder, "-o", workspace, "--dataset", many, "--protocol", "pad"),
        *("--backend", "ONNX", "--backend", "FP32", "--resume"),
    )
    assert result.exit_code == 0
    assert result.stderr.count("counted again") == 2
    assert scores(workspace) == expected


# On a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two machines (on this one), each with one CPU, and the second one to kill."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_counts_the_same(
    small: ModelCard, workspace: Path, many: Path, tmp_path: Path, cluster: Any
) -> None:
    task = settings_of(many, small)
    subjects, entries = subjects_in(workspace), entries_of(many, small)
    expected = count(task, subjects, entries, kept(small, workspace, many, tmp_path / "here", resume=False))
    killed = []

    def kill_one(images: int, state: str) -> None:
        import ray

        if images and not killed:
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
            assert len([node for node in ray.nodes() if node["Alive"]]) == 2
            (killed_one,) = cluster.worker_nodes
            cluster.remove_node(killed_one, allow_graceful=False)
            killed.append(killed_one)

    partials = kept(small, workspace, many, tmp_path / "there", resume=False)
    found = count(task, subjects, entries, partials, run_on_ray(cluster.address), kill_one)
    assert killed
    assert list(found.confusions) == ["ONNX", "IR FP32", "IR FP16"]
    for name, counts in expected.confusions.items():
        assert np.array_equal(found.confusions[name], counts)
    assert found.confusions["ONNX"].sum() > 100_000


def test_a_local_cluster_through_the_command_line(cli: Cli, small: ModelCard, workspace: Path, many: Path) -> None:
    evaluate_many(cli, small, workspace, many)
    expected = scores(workspace)
    evaluate_many(cli, small, workspace, many, "--ray", "local", "--force")
    assert scores(workspace) == expected


def test_a_bad_image_is_the_same_error_on_a_cluster(
    cli: Cli, small: ModelCard, workspace: Path, many: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)  # the workers run in another folder, where a relative path must mean the same
    copy = shutil.copytree(many, "voc")
    voc.image_of(Path(copy), "040").unlink()
    arguments = ["--dataset", copy, "--protocol", "pad", "--backend", "ONNX", "--ray", cluster.address]
    result = cli("evaluate", small.folder, "-o", ".", *arguments)
    assert result.exit_code == 15
    assert "040.jpg: there is no such image. Remove it from the list" in result.error


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "127.0.0.1:port"])
def test_a_cluster_that_is_not_there(cli: Cli, small: ModelCard, workspace: Path, dataset: Path, address: str) -> None:
    arguments = ["--dataset", dataset, "--backend", "ONNX", "--ray", address]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments)
    assert result.exit_code == 17
    assert f"--ray {address}: cannot be reached: " in result.error


def test_without_ray_it_says_what_to_install(
    cli: Cli, small: ModelCard, workspace: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["--dataset", dataset, "--backend", "ONNX", "--ray", "local"]
    result = cli("evaluate", small.folder, "-o", workspace, *arguments)
    assert result.exit_code == 14
    assert "Ray is not installed. pip install 'pspnet-convert[cluster]'" in result.error


def test_a_bug_on_the_cluster_is_an_error_of_the_cluster(
    small: ModelCard, workspace: Path, many: Path, cluster: Any
) -> None:
    work = Chunk(entries_of(many, small)[:1], subjects_in(workspace)[:1])
    with pytest.raises(ClusterError, match="a chunk failed on the cluster: KeyError: 'nonsense'"):
        list(
            run_on_ray(cluster.address)(
                replace(settings_of(many, small), protocol="nonsense"), [work], lambda images, tally: None
            )
        )
