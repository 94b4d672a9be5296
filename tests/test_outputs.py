"""What a model gives: label maps of each number type, logits, probabilities. Each is verified, and each command takes
what is there."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import manifests
import mmsegmentation as theirs
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from conftest import LENIENT, Cli, call, slow
from hypothesis import given
from hypothesis import strategies as st
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.verify.inputs import verification_inputs
from pspnet_convert.errors import ContractError
from pspnet_convert.files import Digests
from pspnet_convert.forms import OUTPUTS
from pspnet_convert.pytorch.network import PSPNet
from pspnet_convert.pytorch.source_checkpoint import SourceCheckpoint
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend, normalised
from pspnet_convert.runtimes.images import read_image, to_bgr
from pspnet_convert.runtimes.io_signature import check_signature, onnx_signature, read_onnx
from pspnet_convert.runtimes.output_form import OutputForm, probabilities_of

pytestmark = pytest.mark.openvino

CHOICES = [list(some) for count in (1, 2, 3) for some in itertools.combinations(OUTPUTS, count)]
Folders = Callable[..., Path]
Edit = Callable[[onnx.ModelProto], None]


def words(outputs: Sequence[str]) -> list[str]:
    return [word for output in outputs for word in ("--output", output)]


@pytest.fixture(scope="module")
def run_with(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The model's folder after a `run` with these arguments. Read only."""
    made: dict[tuple[str, ...], Path] = {}

    def folder(*arguments: str) -> Path:
        if arguments not in made:
            place = tmp_path_factory.mktemp("outputs")
            done = call("run", small.folder, "-o", place, *arguments)
            assert done.exit_code == 0, done.stderr
            assert "verdict: pass" in done.stdout
            made[arguments] = place / "public" / small.name
        return made[arguments]

    return folder


@pytest.fixture(scope="module")
def network(small: ModelCard) -> PSPNet:
    source = SourceCheckpoint(small, small.folder / small.checkpoint.name, Digests(), allow_unknown=True)
    return source.take_network().eval()


def of_onnx(path: Path, card: ModelCard) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    (entry,) = verification_inputs(card, card.input.shape)
    return dict(zip(names, session.run(names, {card.input.name: normalised([entry.image], card.input)})))


def of_ir(path: Path, card: ModelCard) -> dict[str, NDArray[Any]]:
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (entry,) = verification_inputs(card, card.input.shape)
    found = compiled(entry.image.transpose(2, 0, 1)[None].astype(np.float32))
    return {name: found[port] for port in compiled.outputs for name in port.get_names()}


# What the files give


@pytest.mark.parametrize("outputs", [["labels", "probabilities"], *map(slow, CHOICES)], ids="+".join)
def test_onnx_and_irs_give_what_was_asked_for(
    run_with: Folders, small: ModelCard, network: PSPNet, outputs: list[str]
) -> None:
    folder = run_with(*words(outputs))
    (entry,) = verification_inputs(small, small.input.shape)
    with torch.inference_mode():
        logits = network(torch.from_numpy(normalised([entry.image], small.input)))
    expected = {
        small.output.name: logits.argmax(1, keepdim=True).numpy(),
        "logits": logits.numpy(),
        "probabilities": logits.softmax(1).numpy(),
    }
    wanted = OutputForm(tuple(outputs)).names(small.output.name)  # type: ignore[arg-type]
    files = {path: of_ir(path, small) for path in folder.glob("FP*/*.xml")}
    onnx_file = folder / f"{small.name}.onnx"
    files[onnx_file] = of_onnx(onnx_file, small)
    assert list(files[onnx_file]) == wanted
    for path, found in files.items():
        assert found.keys() - {"feature_vector"} == set(wanted)
        of_fp16 = "FP16" in path.parts  # rounded weights move random logits far; `verify` holds them to that
        tolerance, agreement = (0.2, 0.99) if of_fp16 else (5e-5, 0.999)
        for name in set(wanted) & {"logits", "probabilities"}:
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance * abs(expected[name]).max())
        if small.output.name in wanted:
            assert (found[small.output.name] == expected[small.output.name]).mean() > agreement


@pytest.mark.parametrize(("label_type", "dtype"), [("u8", np.uint8), slow("int32", np.int32)])
def test_label_maps_of_another_number_type(
    run_with: Folders, small: ModelCard, small_run: Path, label_type: str, dtype: type
) -> None:
    folder = run_with("--label-type", label_type)
    plain = of_onnx(small_run / "public" / small.name / f"{small.name}.onnx", small)[small.output.name]
    for found in (of_onnx(folder / f"{small.name}.onnx", small), of_ir(folder / "FP32" / f"{small.name}.xml", small)):
        labels = found[small.output.name]
        assert labels.dtype == dtype
        assert np.array_equal(labels, plain)
    assert (
        f"{np.dtype(dtype).name if label_type != 'u8' else 'u8'} 1 x 1 x 72 x 64"
        in (folder / "report.html").read_text()
    )


def test_u8_holds_256_classes(cli: Cli, workspace: Path, small: ModelCard, tmp_path: Path) -> None:
    many = [{"name": f"c{number}", "color": [0, 0, 0]} for number in range(257)]
    card = small.model_copy(update={"classes": many})
    from pspnet_convert.commands.export_onnx.write_onnx import _check_outputs
    from pspnet_convert.errors import ExportError

    with pytest.raises(ExportError, match="257 classes do not fit into u8"):
        _check_outputs(None, card, OutputForm(label_type="u8"))  # type: ignore[arg-type]


@given(st.integers(2, 9), st.integers(0, 10**6), st.floats(0.1, 50))
def test_probabilities_are_torchs(classes: int, seed: int, scale: float) -> None:
    logits = torch.randn(classes, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    found = probabilities_of(logits.numpy().astype(np.float32), is_binary=False)
    np.testing.assert_allclose(found, logits.float().double().softmax(0), atol=1e-12)
    binary = probabilities_of(logits.numpy().astype(np.float32)[:2], is_binary=True)
    np.testing.assert_allclose(binary[1], logits[1].float().double().sigmoid(), atol=1e-12)
    np.testing.assert_allclose(binary.sum(0), 1, atol=1e-12)


@given(st.integers(2, 9), st.integers(0, 10**6), st.floats(1e-6, 3), st.floats(0.1, 50))
def test_no_probability_moves_by_more_than_half_as_much_as_the_logits(
    classes: int, seed: int, moved: float, scale: float
) -> None:
    chance = np.random.default_rng(seed)
    logits = (chance.standard_normal((classes, 4, 4)) * scale).astype(np.float32)
    other = (logits + chance.uniform(-moved, moved, logits.shape)).astype(np.float32)
    off, by = other.astype(np.float64) - logits, np.abs(other.astype(np.float64) - logits).max()
    for is_binary in (False, True):
        given_logits = [one[:2] if is_binary else one for one in (logits, other)]
        before, after = (probabilities_of(one, is_binary=is_binary) for one in given_logits)
        assert np.abs(after - before).max() <= by / 2 + 1e-12
    before, after = (probabilities_of(one, is_binary=False) for one in (logits, other))
    assert np.sqrt(np.mean((after - before) ** 2)) <= np.sqrt(np.mean(off**2)) / 2 + 1e-12


# Verification sees when an output is wrong


def retyped(name: str, make: Callable[[str], onnx.NodeProto]) -> Edit:
    """Put the node that `make` gives, for what the output was, before the output `name`."""

    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["right" if one == name else one for one in node.output]
            node.input[:] = ["right" if one == name else one for one in node.input]
        model.graph.node.append(make("right"))

    return edit


def scaled(name: str, factor: float) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]))
        retyped(name, lambda given: helper.make_node("Mul", [given, "factor"], [name]))(model)

    return edit


def exchanged(model: onnx.ModelProto) -> None:
    names = {"logits": "probabilities", "probabilities": "logits"}
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]


FAULTS: Mapping[str, tuple[Edit, str]] = {
    "probabilities off by 1 %": (scaled("probabilities", 1.01), "probabilities are off by"),
    "logits off by 1e-4": (scaled("logits", 1.0001), "logits are off by"),
    "logits and probabilities exchanged": (exchanged, "are off by"),
    "a sigmoid in place of the softmax": (
        retyped("probabilities", lambda given: helper.make_node("Sigmoid", [given], ["probabilities"])),
        "probabilities are off by",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_output_is_found(cli: Cli, run_with: Folders, small: ModelCard, tmp_path: Path, fault: str) -> None:
    folder = run_with(*words(OUTPUTS))
    edit, says = FAULTS[fault]
    model = onnx.load(folder / f"{small.name}.onnx")
    edit(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    found = cli("verify", small.folder, "-o", folder.parents[1], "--onnx", tmp_path / "wrong.onnx", "--json")
    assert found.exit_code == 9
    (compared,) = found.json()["stages"][0]["result"]["comparisons"]
    failed = {check["name"]: check["faults"] for check in compared["checks"] if not check["passed"]}
    assert set(failed) == {"outputs"}, failed
    assert says in failed["outputs"][0]


def test_a_wrong_output_of_an_ir_is_found(cli: Cli, run_with: Folders, small: ModelCard, tmp_path: Path) -> None:
    folder = run_with(*words(OUTPUTS))
    text = (folder / "FP32" / f"{small.name}.xml").read_text()
    assert 'type="SoftMax"' in text or 'type="Softmax"' in text
    model = openvino.Core().read_model(str(folder / "FP32" / f"{small.name}.xml"))
    softmax = next(node for node in model.get_ops() if node.get_type_name() == "Softmax")
    softmax.set_arguments([softmax.input_value(0)])
    from pspnet_convert.runtimes.openvino_install import operations

    wrong = operations().softmax(softmax.input_value(0), 2)
    softmax.output(0).replace(wrong.output(0))
    openvino.save_model(model, str(tmp_path / "wrong.xml"), compress_to_fp16=False)
    found = cli("verify", small.folder, "-o", folder.parents[1], "--ir", tmp_path / "wrong.xml")
    assert found.exit_code == 9
    assert "probabilities are off by" in " ".join((found.stdout + found.stderr).split())


def test_a_lost_output_is_a_broken_contract(small: ModelCard, run_with: Folders) -> None:
    path = run_with(*words(["labels", "probabilities"])) / f"{small.name}.onnx"
    asked = onnx_signature(read_onnx(path))
    check_signature(path, asked, small, small.input.shape)
    for form in (OutputForm(), OutputForm(("labels", "logits", "probabilities")), OutputForm(("probabilities",))):
        with pytest.raises(ContractError, match="its output"):
            check_signature(path, asked, small, small.input.shape, gives=form)
    with pytest.raises(ContractError, match="expected segmentation_map uint8"):
        check_signature(path, asked, small, small.input.shape, gives=OutputForm(("labels", "probabilities"), "u8"))


def test_the_workspaces_own_files_must_have_the_outputs(
    cli: Cli, run_with: Folders, small_run: Path, small: ModelCard, tmp_path: Path
) -> None:
    """The manifest says two outputs; the files have one."""
    place = shutil.copytree(run_with(*words(["labels", "probabilities"])).parents[1], tmp_path / "out")
    folder, other = place / "public" / small.name, small_run / "public" / small.name
    shutil.copy(other / f"{small.name}.onnx", folder)
    found = cli("verify", small.folder, "-o", place)
    assert found.exit_code == 9
    assert "its output is none, expected probabilities float32" in " ".join((found.stdout + found.stderr).split())


# Binary heads


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Sequence[object]:
    """The arguments that name a model with a binary head."""
    place = tmp_path_factory.mktemp("binary")
    root = theirs.write_data(place / "data", "DRIVEDataset", 2)
    changes = {"model__decode_head__out_channels": 1, "model__decode_head__threshold": 0.45}
    config = theirs.write_config(place / "vessels.py", root, "DRIVEDataset", 2, **changes)
    names, palette = ["background", "vessel"], [[0, 0, 0], [1, 2, 3]]
    checkpoint = theirs.save_checkpoint(place / "weights.pth", names, palette, is_binary=True)
    return "--config", config, "--checkpoint", checkpoint


def test_a_binary_heads_probability_is_the_sigmoid(cli: Cli, binary: Sequence[object], tmp_path: Path) -> None:
    done = cli("run", *binary, "-o", tmp_path, *words(["labels", "probabilities"]))
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "public" / "vessels"
    card = load_card(folder / "model.yml")
    (entry,) = verification_inputs(card, card.input.shape)
    (prediction,) = OnnxBackend(folder / "vessels.onnx", card, card.input.shape).run([entry.image])
    sigmoid = torch.from_numpy(prediction.logits[1]).sigmoid().numpy()
    for found in (of_onnx(folder / "vessels.onnx", card), of_ir(folder / "FP32" / "vessels.xml", card)):
        np.testing.assert_allclose(found["probabilities"][0, 1], sigmoid, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"].sum(1), 1, atol=1e-6)
        # At 0.5 Model API would draw another line than the head's threshold does.
        assert "feature_vector" not in found


def test_a_binary_heads_probabilities_alone_are_refused(cli: Cli, binary: Sequence[object], tmp_path: Path) -> None:
    done = cli("run", *binary, "-o", tmp_path, "--output", "probabilities")
    assert done.exit_code == 7
    assert "a binary head's labels depend on its threshold" in done.error
    assert "Say --output labels too" in done.error


# The commands take what is there


@pytest.mark.parametrize("outputs", [["probabilities"], slow(["logits"]), slow(["labels", "logits", "probabilities"])])
def test_evaluate_and_quantize_take_what_is_there(cli: Cli, demo_run: Path, tmp_path: Path, outputs: list[str]) -> None:
    done = cli("run", "demo", "-o", tmp_path, *words(outputs))
    assert done.exit_code == 0, done.stderr
    plain = shutil.copytree(demo_run, tmp_path / "plain")
    for place in (tmp_path, plain):
        assert cli("quantize", "demo", "-o", place, *LENIENT).exit_code == 0
    counted = [cli("evaluate", "demo", "-o", place, "--json").json()["result"] for place in (tmp_path, plain)]
    scores = [{score["backend"]: score["mean_iou"] for score in one["scores"]} for one in counted]
    assert scores[0].keys() == scores[1].keys() > {"ONNX", "IR FP32", "IR INT8"}
    for backend, score in scores[1].items():
        assert scores[0][backend] == pytest.approx(score, abs=0.2 if backend == "IR INT8" else 0.01)  # per cent
    picture = find_card("demo").folder / "voc" / "JPEGImages" / "digits_001.jpg"
    for place in (tmp_path, plain):
        assert cli("segment", picture, "--model", "demo", "-o", place).exit_code == 0
    maps = [read_image(next(place.rglob("digits_001.labels.png"))) for place in (tmp_path, plain)]
    assert np.array_equal(*maps)


@pytest.mark.parametrize("outputs", [["labels", "probabilities"], ["logits"], slow(["labels", "logits"])])
def test_model_api_as_a_whole_gives_our_label_map(cli: Cli, tmp_path: Path, outputs: list[str]) -> None:
    done = cli("run", "demo", "-o", tmp_path, *words(outputs))
    assert done.exit_code == 0, done.stderr
    card = find_card("demo")
    path = tmp_path / "public" / "demo" / "FP32" / "demo.xml"
    f32 = {"INFERENCE_PRECISION_HINT": "f32"}
    model = Model.create_model(OpenvinoAdapter(create_core(), str(path), device="CPU", plugin_config=f32))
    backend = OpenVinoBackend(path, card)
    for picture in sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[:3]:
        image = to_bgr(read_image(picture))
        labels = next(backend.run([image])).labels
        assert len(np.unique(labels)) > 1
        assert np.array_equal(model(image), labels)


def test_the_manifest_has_the_outputs_in_one_order(run_with: Folders, small: ModelCard) -> None:
    options = manifests.read(run_with(*words(OUTPUTS)))["stages"]["export-onnx"]["options"]
    assert (options["outputs"], options["label_type"]) == (list(OUTPUTS), "int64")
    again = call("run", small.folder, "-o", run_with(*words(OUTPUTS)).parents[1], *words(reversed(OUTPUTS)), "--json")
    assert [stage["skipped"] for stage in again.json()["stages"]] == [True] * 4
