"""The benchmark's counting, its ratios and its output. No test checks a speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.benchmark.flops import gflops


def graph_file(path: Path, node: onnx.NodeProto, inputs: dict[str, list[int]], output: list[int]) -> Path:
    def value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = onnx.helper.make_graph(
        [node], "g", [value(name, shape) for name, shape in inputs.items()], [value("y", output)]
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), str(path))
    return path


@given(m=st.integers(1, 50), k=st.integers(1, 50), n=st.integers(1, 50), batch=st.integers(1, 4))
def test_a_matrix_products_operations(
    tmp_path_factory: pytest.TempPathFactory, m: int, k: int, n: int, batch: int
) -> None:
    path = graph_file(
        tmp_path_factory.mktemp("g") / "g.onnx",
        onnx.helper.make_node("MatMul", ["a", "b"], ["y"]),
        {"a": [batch, m, k], "b": [batch, k, n]},
        [batch, m, n],
    )
    assert gflops(path) == pytest.approx(2e-9 * batch * m * n * k)


def test_a_convolutions_operations(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=2, pads=[1, 1, 1, 1])
    path = graph_file(tmp_path / "g.onnx", node, {"x": [1, 8, 5, 7], "w": [6, 4, 3, 3]}, [1, 6, 5, 7])
    assert gflops(path) == pytest.approx(2e-9 * (6 * 5 * 7) * (4 * 3 * 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pspnet-pytorch", "demo"])
def test_the_plain_graph_has_the_cards_gflops(name: str, tmp_path: Path) -> None:
    """The folded graph of the full-size model has a fifth less: at most 285."""
    import torch

    from pspnet_convert.commands.export_onnx.options import ExportOptions
    from pspnet_convert.commands.export_onnx.write_onnx import write_onnx
    from pspnet_convert.pytorch.network import PSPNet, build_segmentor

    card = find_card(name)
    torch.manual_seed(0)
    network = PSPNet(build_segmentor(card.config, card.config_overrides)).eval()
    found = {}
    for fold in (False, True):
        path = tmp_path / f"{fold}.onnx"
        write_onnx(network, card, path, ExportOptions(card.input.shape, fold_pyramid=fold), {"name": card.name})
        found[fold] = gflops(path)
    assert found[False] == pytest.approx(card.gflops, rel=0.01)
    if name == "pspnet-pytorch":
        assert found[True] <= 285


@pytest.mark.slow
def test_all_subjects_are_timed_and_plotted(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("small-standin.*")}
    plot = tmp_path / "speed.png"
    result = cli("benchmark", small.folder, "-o", workspace, "--rounds", 1, "--int8", "--plot", plot, "--json")
    assert result.exit_code == 0, result.stderr
    rows: list[dict[str, Any]] = result.json()
    assert [row["runtime"] for row in rows].count("IR") == 14
    assert {(row["graph"], row["weights"], row["at"]) for row in rows if row["runtime"] == "IR"} == {
        (graph, weights, at)
        for graph in ("plain", "unfolded", "folded")
        for weights in ("FP32", "FP16")
        for at in ("f32", "default")
    } | {("folded", "INT8", "f32"), ("folded", "INT8", "default")}
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1000 / row["median_ms"])
        assert row["gflops_per_second"] == pytest.approx(row["gflops"] * row["images_per_second"])
        assert row["peak_memory_mb"] > 20
        assert row["file_mb"] > 0.1
        if row["weights"] == "INT8":
            assert row["share"] is None
            assert row["precision"].startswith("i8+")
        else:
            assert row["share"] > 0
            assert row["precision"] == "f32" or row["at"] == "default"
        if (row["runtime"], row["graph"], row["weights"]) == ("IR", "plain", "FP32"):
            assert row["ratio"] == 1
    assert Image.open(plot).format == "PNG"
    assert {path: path.stat().st_mtime_ns for path in workspace.rglob("small-standin.*")} == before


def test_without_a_checkpoint_it_says_what_to_run(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    result = cli("benchmark", small.folder, "-o", tmp_path)
    assert result.exit_code == 6
    assert "Run `pspnet-convert download` first" in result.error


def test_a_subject_that_does_not_run_is_named(small: ModelCard, tmp_path: Path) -> None:
    from pspnet_convert.commands.benchmark.figures import time_in_turns
    from pspnet_convert.errors import ArtifactError
    from pspnet_convert.runtimes.timing import Subject

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"ONNX broken\.onnx does not run"):
        time_in_turns(small, small.input.shape, [Subject("ONNX", "plain", "FP32", "f32", broken)], {}, rounds=1)
