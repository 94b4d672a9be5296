"""Winograd's algorithm: the same function as the plain convolution, in the matrices, the graph and the whole chain."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench_winograd
import manifests
import numpy as np
import openvino
import pytest
import torch
import winograd_ir
from conftest import Cli, call, needs_mo
from fault_catalogue import network_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.to_ir.save_irs import save_all
from pspnet_convert.commands.to_ir.winograd import LayerShape, rewrite_convolutions
from pspnet_convert.commands.to_ir.winograd_matrices import side, transform
from pspnet_convert.commands.verify.inputs import verification_inputs
from pspnet_convert.runtimes.backends import OpenVinoBackend, TorchBackend
from pspnet_convert.runtimes.images import SAMPLES
from pspnet_convert.runtimes.ir_taps import IrTaps
from pspnet_convert.runtimes.logit_error import error_of
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.precision_hint import compile_hints
from pspnet_convert.runtimes.winograd_layers import count_winograd

Numbers = NDArray[np.float64]
FRONT_ENDS = [pytest.param("mo", marks=needs_mo), "ovc"]
channels, lengths, dilations = st.integers(1, 5), st.integers(1, 19), st.sampled_from([1, 2, 4])


def convolved(image: Numbers, weights: Numbers, dilation: tuple[int, int]) -> Numbers:
    """What torch makes of image [N, C, H, W] in float64."""
    given = [torch.from_numpy(values.astype(np.float64)) for values in (image, weights)]
    return torch.nn.functional.conv2d(*given, padding=dilation, dilation=dilation).numpy()  # type: ignore[no-any-return]


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[Numbers]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape) for shape in shapes]


# The matrices, in float64


@given(channels, channels, lengths, lengths, dilations, dilations)
def test_the_matrices_are_the_convolution(c: int, o: int, height: int, width: int, down: int, across: int) -> None:
    image, weights = drawn(height, (2, c, height, width), (o, c, 3, 3))
    rows, columns = side(height, down), side(width, across)
    by_point = np.einsum("pi,qj,ocij->pqoc", rows.weights, columns.weights, weights)
    tiles = np.einsum("pth,qsw,nchw->npqcts", rows.given, columns.given, image, optimize=True)
    products = np.einsum("pqoc,npqcts->npqots", by_point, tiles, optimize=True)
    made = np.einsum("hpt,wqs,npqots->nohw", rows.result, columns.result, products, optimize=True)
    assert np.abs(made - convolved(image, weights, (down, across))).max() < 1e-10


def test_the_transform_of_two_is_the_known_one() -> None:
    """F(2, 3) of Lavin and Gray, with the points in their order; their rows differ by signs that cancel."""
    found = transform(2)
    assert found.given.tolist() == [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    assert found.weights.tolist() == [[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    assert found.result.tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]


@pytest.mark.parametrize(("length", "dilation", "points", "tiles"), [
    (64, 1, 6, 16), (64, 4, 6, 16), (63, 1, 6, 16), (65, 1, 6, 17),  # 4 results a tile
    (2, 1, 4, 1), (8, 4, 4, 4), (6, 1, 4, 3),  # too few for that: 2
])  # fmt: skip
def test_small_sides_have_small_tiles(length: int, dilation: int, points: int, tiles: int) -> None:
    found = side(length, dilation)
    assert (found.points, found.tiles) == (points, tiles)


# The rewrite of a graph


def graph(
    image: tuple[int, ...], weights: Numbers, *, strides: int = 1, pads: int = 1, dilation: tuple[int, int] = (1, 1),
    fp16: bool = False,
) -> openvino.Model:  # fmt: skip
    """A convolution named `conv` with a bias, of an image [N, C, H, W]; -1: any size."""
    made = operations()
    taken = made.parameter(list(image), openvino.Type.f32)
    kept: Any = made.constant(weights.astype(np.float16 if fp16 else np.float32))
    padding = [pads * one for one in dilation]
    node = made.convolution(
        taken, made.convert(kept, "f32") if fp16 else kept, [strides] * 2, padding, padding, list(dilation)
    )
    node.set_friendly_name("conv")
    node.output(0).set_names({"convolved"})
    bias = made.constant(np.ones((1, weights.shape[0], 1, 1), np.float32))
    return openvino.Model([made.result(made.add(node, bias))], [taken], "one")


def run(model: openvino.Model, image: Numbers) -> NDArray[np.float32]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(image.astype(np.float32))[0])


@settings(max_examples=30)
@given(st.integers(1, 3), channels, channels, lengths, lengths, dilations, dilations, st.booleans(), st.booleans())
def test_the_rewritten_graph_gives_the_same(
    batch: int, c: int, o: int, height: int, width: int, down: int, across: int, fp16: bool, any_batch: bool
) -> None:
    image, weights = drawn(width, (batch, c, height, width), (o, c, 3, 3))
    model = graph((-1 if any_batch else batch, *image.shape[1:]), weights, dilation=(down, across), fp16=fp16)
    plain = run(model, image)
    assert rewrite_convolutions(model, "all") == 1
    assert "Convolution" not in {node.get_type_name() for node in model.get_ops()}
    assert error_of(run(model, image), plain).rms < 5e-6


@pytest.mark.parametrize("channels", [16, 512])
def test_one_layer_is_as_exact_as_its_points_allow(channels: int) -> None:
    """The usual points, 0, 1, -1, 2, -2, are off by more than twice as much: 3.6e-6."""
    image, weights = drawn(0, (1, channels, 32, 32), (8, channels, 3, 3))
    model = graph(image.shape, weights)
    rewrite_convolutions(model, "all")
    exact = convolved(image.astype(np.float32), weights.astype(np.float32), (1, 1)) + 1
    assert error_of(run(model, image), exact).rms < 2.4e-6


THREE = np.ones((4, 3, 3, 3))


@pytest.mark.parametrize("model", [
    graph((1, 3, 8, 8), THREE, strides=2), graph((1, 3, 8, 8), THREE, pads=0), graph((1, 3, 8, 8), THREE, pads=2),
    graph((1, 3, 8, 8), np.ones((4, 3, 1, 1)), pads=0), graph((1, 3, 8, 8), np.ones((4, 3, 5, 5))),
    graph((1, 3, -1, 8), THREE),
], ids=["stride", "no padding", "padding", "1x1", "5x5", "size"])  # fmt: skip
def test_other_convolutions_stay(model: openvino.Model) -> None:
    assert rewrite_convolutions(model, "all") == 0
    assert "Convolution" in {node.get_type_name() for node in model.get_ops()}
    assert compile_hints(model, at_default_precision=True) == {}


def test_the_layer_keeps_its_names_and_each_node_has_its_own() -> None:
    model = graph((1, 3, 8, 8), THREE)
    rewrite_convolutions(model, "all")
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    assert len(nodes) == len(model.get_ops())
    assert nodes["conv"].output(0).get_names() == {"convolved"}
    added = [node for node in model.get_ops() if node.get_friendly_name().startswith("conv/")]
    assert len(added) > 10
    assert not [node for node in added if node.get_friendly_name() == node.get_name()]


@pytest.mark.parametrize(("c", "o", "length", "dilation", "pays"), [
    (2048, 512, 64, 1, True), (512, 512, 64, 4, True), (256, 256, 64, 2, True), (256, 256, 32, 2, True),
    (512, 512, 128, 4, True), (512, 512, 32, 4, True),
    (64, 64, 128, 1, False), (128, 128, 64, 1, False), (256, 256, 16, 2, False), (32, 64, 256, 1, False),
    (256, 256, 128, 2, False),
])  # fmt: skip
def test_auto_rewrites_where_it_was_measured_to_pay(c: int, o: int, length: int, dilation: int, pays: bool) -> None:
    assert LayerShape(c, o, length, length, (dilation, dilation)).pays is pays


def test_auto_leaves_a_small_layer_and_off_leaves_all() -> None:
    for which in ("auto", "off"):
        assert rewrite_convolutions(graph((1, 3, 8, 8), THREE), which) == 0  # type: ignore[arg-type]
    weights = np.ones((256, 256, 3, 3))
    assert rewrite_convolutions(graph((1, 256, 64, 64), weights), "auto") == 1


# The files


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_the_file_keeps_its_size_and_its_matrices(tmp_path: Path, precision: str) -> None:
    (weights,) = drawn(0, (512, 512, 3, 3))
    sizes = {}
    for which in ("off", "all"):
        target = tmp_path / f"{which}.xml"
        request = {
            "form": {"type": "f32", "layout": "NCHW"}, "winograd": "off" if which == "off" else "all",
            "keeps_float32_input": False, "model_info": {}, "labels": "labels", "targets": {precision: str(target)},
        }  # fmt: skip
        save_all(graph((1, 512, 64, 64), weights), request, lambda: None)
        sizes[which] = target.with_suffix(".bin").stat().st_size
    assert sizes["off"] < sizes["all"] <= 1.05 * sizes["off"]
    constants = {
        node.get_friendly_name(): node.get_element_type().get_type_name()
        for node in openvino.Core().read_model(str(tmp_path / "all.xml")).get_ops()
        if node.get_type_name() == "Constant" and "/winograd/" in node.get_friendly_name()
    }
    matrices = {name.split("/")[2] for name, kind in constants.items() if kind == "f32"}
    assert matrices == {"weights", "columns", "rows", "rows-back", "columns-back"}
    assert set(constants.values()) == {"f32", "i64"}


# The whole chain


@pytest.fixture(scope="module")
def winograd_run(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one `run --winograd all` of the small model. Read only."""
    folder = tmp_path_factory.mktemp("winograd")
    done = call("run", small.folder, "-o", folder, "--winograd", "all")
    assert done.exit_code == 0, done.stderr
    return folder


def ir_of(out: Path, name: str, precision: str = "FP32") -> Path:
    return out / "public" / name / precision / f"{name}.xml"


def test_it_is_verified_and_recorded(winograd_run: Path, small: ModelCard) -> None:
    """At the tolerances of a plain conversion, FP16 against the reference that is rounded as its constants are."""
    stages = manifests.read(winograd_run / "public" / small.name)["stages"]
    assert stages["to-ir"]["options"]["winograd"] == "all"
    rows = {row["backend"]: row for row in stages["verify"]["result"]["comparisons"]}
    assert {name: row["passed"] for name, row in rows.items()} == {"ONNX": True, "IR FP32": True, "IR FP16": True}
    assert rows["IR FP16"]["relative_error"]["rms"] < 1e-5


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_any_batch_passes(small: ModelCard, tmp_path: Path, front_end: str) -> None:
    form = ["--batch", "dynamic", "--input-type", "u8", "--input-layout", "NHWC"]
    done = call("run", small.folder, "-o", tmp_path, "--winograd", "all", "--front-end", front_end, *form)
    assert done.exit_code == 0, done.stderr
    assert IrTaps(ir_of(tmp_path, small.name)).convolutions()


def test_it_is_rebuilt_to_the_byte(cli: Cli, winograd_run: Path, small: ModelCard) -> None:
    done = cli("rebuild", "--check", winograd_run / "public" / small.name / "manifest.json")
    assert done.exit_code == 0, done.stderr


def test_the_logits_are_as_near_to_float64(winograd_run: Path, small_run: Path, small: ModelCard) -> None:
    """With few channels the plain convolutions are nearly exact, so that more is allowed than at full size."""
    image = verification_inputs(small, small.input.shape)[0].image
    exact = _in_float64(small, image)
    folded, rewritten = (
        error_of(next(OpenVinoBackend(ir_of(out, small.name), small).run([image])).logits, exact).rms
        for out in (small_run, winograd_run)
    )
    assert rewritten < 3 * folded
    assert rewritten < 4e-6


def _in_float64(card: ModelCard, image: Any) -> Numbers:
    network = network_of(card).double()

    def doubled(given: torch.Tensor) -> torch.Tensor:
        return network(given.double())  # type: ignore[no-any-return]

    return next(TorchBackend(doubled, card.input).run([image])).logits  # type: ignore[return-value]


def test_its_layers_are_found_as_convolutions(winograd_run: Path, small_run: Path, small: ModelCard) -> None:
    """verify finds the wrong layer of a file by its convolutions."""
    plain, rewritten = (IrTaps(ir_of(out, small.name)) for out in (small_run, winograd_run))
    assert rewritten.convolutions() == plain.convolutions()
    assert plain.layers.keys() <= rewritten.layers.keys()
    image = np.full((1, 3, 72, 64), 100, np.float32)
    names = [one.results[-1] for one in plain.convolutions()]
    values, expected = rewritten.run(names, image), plain.run(names, image)
    assert max(error_of(values[name], expected[name]).rms for name in names) < 1e-5


def test_a_wrong_layer_is_named(cli: Cli, winograd_run: Path, small: ModelCard, tmp_path: Path) -> None:
    """Of the workspace's own by its names; of a file from elsewhere by its convolutions."""
    source = ir_of(winograd_run, small.name)
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    model = core.read_model(str(source))
    layer = next(
        one for one in model.get_ops() if re.search(r"layer3\.1\.conv2.*/winograd/taps$", one.get_friendly_name())
    )
    weights = layer.input_value(0).get_node()
    changed = weights.data.copy()
    changed[0] *= 1.5
    weights.output(0).replace(operations().constant(changed).output(0))
    openvino.save_model(model, str(tmp_path / "wrong.xml"), compress_to_fp16=False)
    done = cli("verify", small.folder, "-o", winograd_run, "--ir", tmp_path / "wrong.xml", "--json")
    assert done.exit_code == 9
    assert "backbone.layer3.1.conv2" in done.stdout


def test_the_metadata_asks_for_float32(winograd_run: Path, small_run: Path, small: ModelCard) -> None:
    core = openvino.Core()
    plain, rewritten = (core.read_model(str(ir_of(out, small.name, "FP16"))) for out in (small_run, winograd_run))
    assert compile_hints(rewritten, at_default_precision=True) == {"INFERENCE_PRECISION_HINT": "f32"}
    assert compile_hints(plain, at_default_precision=True) == {}
    assert compile_hints(plain) == compile_hints(rewritten) == {"INFERENCE_PRECISION_HINT": "f32"}
    backend = OpenVinoBackend(ir_of(winograd_run, small.name), small, at_default_precision=True)
    assert backend.precision == "f32"


def test_the_example_runs_it_in_float32(winograd_run: Path, small: ModelCard, tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "examples" / "01-python" / "segment.py"
    xml, photo = ir_of(winograd_run, small.name), SAMPLES / "chelsea.jpg"
    command = [sys.executable, str(script), str(xml), str(photo), str(tmp_path / "labels.png")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size = (small.input.width, small.input.height)
    picture = Image.open(photo).convert("RGB")
    for one in ((size[0], picture.height), size):  # as the example does
        picture = picture.resize(one, Image.Resampling.BILINEAR)
    rgb = np.asarray(picture)
    expected = next(OpenVinoBackend(xml, small).run([rgb[:, :, ::-1]])).labels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "labels.png")), expected)


def test_it_is_not_quantized(cli: Cli, winograd_run: Path, small: ModelCard) -> None:
    done = cli("quantize", small.folder, "-o", winograd_run)
    assert done.exit_code == 11
    assert "has Winograd layers" in done.error
    assert "to-ir --winograd off" in done.error


def test_the_script_times_a_layer(capsys: pytest.CaptureFixture[str]) -> None:
    bench_winograd.main(["--layer", "4,6,8,10,1", "--rounds", "1"])
    _, row = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"4->6 +8x10 +1 +[\d.]+ +[\d.]+ +[\d.]+  no", row)


def test_no_checkpoint_is_needed(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    card = Path(shutil.copy(small.folder / "model.yml", tmp_path / "model.yml"))
    (workspace / "public" / small.name / small.checkpoint.name).unlink()
    done = cli("to-ir", card, "-o", workspace, "--winograd", "all")
    assert done.exit_code == 0, done.stderr
    assert marked_as_f32(ir_of(workspace, small.name))
    number = count_winograd(ir_of(workspace, small.name))
    assert number > 1 and f"by Winograd's algorithm: {number} convolutions" in done.stderr
    done = cli("to-ir", card, "-o", workspace, "--winograd", "auto")
    assert "by Winograd's algorithm: no convolution: the IR is that of --winograd off" in done.stderr


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_an_ir_from_elsewhere_is_rewritten(
    small: ModelCard, small_run: Path, winograd_run: Path, tmp_path: Path, precision: str
) -> None:
    target = tmp_path / "rewritten.xml"
    winograd_ir.main([str(ir_of(small_run, small.name, precision)), str(target), "--which", "all"])
    assert marked_as_f32(target)
    image = verification_inputs(small, small.input.shape)[0].image
    made = ir_of(winograd_run, small.name, precision)
    found, expected = (next(OpenVinoBackend(path, small).run([image])).logits for path in (target, made))
    assert error_of(found, expected).rms < 1e-6


def marked_as_f32(path: Path) -> bool:
    return compile_hints(openvino.Core().read_model(str(path)), at_default_precision=True) != {}
