"""The benchmark's counting, its ratios and its output. No test checks a speed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_growth
import manifests
import onnx
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from PIL import Image

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.benchmark.flops import gflops
from pspnet_convert.commands.benchmark.plot import plot_benchmark
from pspnet_convert.commands.benchmark.ratios import (
    Ratio,
    Rounds,
)
from pspnet_convert.commands.benchmark.result import Benchmark
from pspnet_convert.commands.benchmark.tables import print_benchmark
from pspnet_convert.commands.benchmark.theory import Theory
from pspnet_convert.runtimes.timing import Subject


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


def test_a_transposed_convolutions_operations(tmp_path: Path) -> None:
    node = onnx.helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2, strides=[2, 2])
    path = graph_file(tmp_path / "g.onnx", node, {"x": [1, 8, 5, 7], "w": [8, 3, 2, 2]}, [1, 6, 10, 14])
    assert gflops(path) == pytest.approx(2e-9 * (8 * 5 * 7) * (3 * 2 * 2))


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
    rows: list[dict[str, Any]] = result.json()["timings"]
    assert [row["runtime"] for row in rows].count("IR") == 16
    assert [row["runtime"] for row in rows].count("ONNX") == 3
    assert {(row["graph"], row["weights"], row["at"]) for row in rows if row["runtime"] == "IR"} == {
        (graph, weights, at)
        for graph in ("plain", "unfolded", "folded")
        for weights in ("FP32", "FP16")
        for at in ("f32", "default")
    } | {("folded", "INT8", "f32"), ("folded", "INT8", "default")} | {
        ("winograd", weights, "f32") for weights in ("FP32", "FP16")
    }
    limits = {limit["precision"]: limit["gflops_per_second"] for limit in result.json()["limits"]}
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1000 / row["median_ms"])
        assert row["gflops_per_second"] == pytest.approx(row["gflops"] * row["images_per_second"])
        assert row["peak_memory_mb"] > 20
        assert row["file_mb"] > 0.1
        multiplied_in = row["precision"].partition("+")[0]
        if row["graph"] == "winograd":
            assert row["share"] is None
        else:
            assert row["share"] == pytest.approx(row["gflops_per_second"] / limits[multiplied_in])
        if row["weights"] == "INT8":
            assert row["precision"].startswith("i8+")
        else:
            assert row["precision"] == "f32" or row["at"] == "default"
        if (row["runtime"], row["graph"], row["weights"]) == ("IR", "plain", "FP32"):
            assert row["ratio"]["median"] == 1
    assert result.json()["remarks"][0] == "1 round cannot show how far the ratios are off: say --rounds auto"
    assert Image.open(plot).format == "PNG"
    assert {path: path.stat().st_mtime_ns for path in workspace.rglob("small-standin.*")} == before


@pytest.fixture(scope="module")
def place(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `measured`."""
    return shutil.copytree(small_run, tmp_path_factory.mktemp("measured") / "out")


@pytest.fixture(scope="module")
def measured(small: ModelCard, place: Path) -> Benchmark:
    """Everything of the small model's folded graph, for two images of another size."""
    from pspnet_convert import benchmark

    return benchmark(
        small.folder,
        checkpoint=small.folder / small.checkpoint.name,
        output_dir=place,
        graph="folded",
        rounds=1,
        layers=True,
        throughput=True,
        startup=True,
        input_shape=(1, 3, 128, 64),
        batch=2,
    )


@pytest.fixture(scope="module")
def detailed(measured: Benchmark) -> dict[str, Any]:
    """What --json prints."""
    found: dict[str, Any] = json.loads(json.dumps(measured.as_dict()))
    return found


def test_without_the_plain_graph_there_is_no_ratio(detailed: dict[str, Any]) -> None:
    rows = detailed["timings"]
    assert {row["graph"] for row in rows} == {"folded"}
    assert {row["runtime"] for row in rows} == {"ONNX", "IR"}
    assert all(row["ratio"] is None for row in rows)
    assert all(row["images_per_second"] == pytest.approx(2 * 1000 / row["median_ms"]) for row in rows)


def test_the_layers_do_the_graphs_operations_at_another_size_and_batch(detailed: dict[str, Any]) -> None:
    gflop = next(row["gflops"] for row in detailed["timings"])
    assert [(one["weights"], one["at"]) for one in detailed["layers"]] == [("FP32", "f32"), ("FP32", "default")]
    for one in detailed["layers"]:
        assert sum(layer["gflops"] for layer in one["layers"]) == pytest.approx(gflop, rel=0.01)
        assert one["sum_ms"] == pytest.approx(sum(layer["ms"] for layer in one["layers"]))
        assert 0 < one["sum_ms"] < 1.05 * one["profiled_ms"]
        assert any(layer["shape"][:2] == [2, 5] for layer in one["layers"])  # the logits of both images
        shares = [
            layer["share"] for layer in one["layers"] if layer["gflops_per_second"] and "mlas" not in layer["kernel"]
        ]
        assert shares and all(shares)


def test_what_other_programs_take_is_measured(detailed: dict[str, Any]) -> None:
    assert 0 <= detailed["others"] <= 1


def test_throughput_has_requests_and_streams(detailed: dict[str, Any]) -> None:
    for row in detailed["throughput"]:
        assert row["requests"] >= row["streams"] >= 1
        assert row["images_per_second"] > 0 and row["ratio"]["median"] > 0


def test_a_start_from_the_cache_does_not_read_the_ir(detailed: dict[str, Any]) -> None:
    without, cached = detailed["startup"][:2]
    assert (without["cache_mb"], cached["cache_mb"] > 0.01) == (None, True)
    assert cached["read_ms"] < 1 < without["read_ms"]
    for row in (without, cached):
        steps = [row["import_ms"], row["read_ms"], row["compile_ms"], row["first_ms"]]
        assert row["total_ms"] == pytest.approx(sum(steps)) and min(steps[0], *steps[2:]) > 0


def test_manifest_and_report_page_have_the_figures(measured: Benchmark, place: Path) -> None:
    folder = place / "public" / "small-standin"
    record = manifests.read(folder)["stages"]["benchmark"]
    assert record["inputs"]["checkpoint"]["is_the_cards"] and record["inputs"]["processor"]["name"]
    result = record["result"]
    assert result["shape"] == [2, 3, 128, 64]
    assert [row["median_ms"] for row in result["timings"]] == [row.median_ms for row in measured.timings]
    names = [(row["model"], row["precision"], row["processor"]) for row in result["timings"]]
    assert names[1:3] == [("IR folded FP32", "f32", None), ("IR folded FP16", "f32", None)]
    assert len(set(names)) == len(names)  # also where the default precision is f32
    longest = max(layer.ms for layer in measured.layers[0].layers)
    first = result["layers"][0]
    assert first["longest"][0]["ms"] == longest
    assert first["longest"][0]["part"] * first["all_ms"] == pytest.approx(longest)
    page = (folder / "report.html").read_text(encoding="utf-8")
    for row in measured.timings:
        assert f"{row.median_ms:.1f} ms" in page and f"{row.peak_memory_mb:.0f} MB" in page
    for throughput in measured.throughput:
        assert f"{throughput.images_per_second:.1f} images/s" in page
    assert "import " in page and "from the cache" in page and f"{longest:.2f} ms" in page


def test_without_a_manifest_nothing_is_recorded(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    checkpoint = small.folder / small.checkpoint.name
    asked = ("--rounds", 1, "--graph", "folded", "--checkpoint", checkpoint)
    assert cli("benchmark", small.folder, "-o", tmp_path, *asked).exit_code == 0
    assert not list(tmp_path.rglob("manifest.json"))


def test_each_bar_of_the_plot_has_a_name_and_a_place_of_its_own(
    measured: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    draw = Axes.barh
    monkeypatch.setattr(Axes, "barh", lambda *given, **named: drawn.append(draw(*given, **named)) or drawn[0])
    rows = [*measured.timings, *(replace(row, processor="avx2") for row in measured.timings)]
    plot_benchmark(rows, tmp_path / "plot.png")
    assert len({bar.get_y() for bar in drawn[0]}) == len(rows)
    assert len({row.name for row in rows}) == len(rows)


def test_tables_fit_in_100_columns(measured: Benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    long = max(measured.layers[0].layers, key=lambda layer: layer.ms)
    layers = [
        replace(measured.layers[0], layers=[replace(long, name="backbone." * 9, kernel="brgconv_avx512_1x1_bf16")])
    ]
    rows = [
        replace(row, graph="unfolded", median_ms=12345.6, gflops=1234.5, ratio=Ratio(12.34, (12.21, 13.05), 0.2))
        for row in measured.timings
    ]
    theory = Theory(12345.0, "128 cores of Sapphire Rapids or Emerald Rapids, 2048 operations in a cycle, 3.70 GHz")
    print_benchmark(replace(measured, timings=rows, layers=layers, limits=[replace(measured.limits[0], theory=theory)]))
    printed = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 100
    for words in (
        "IR unfolded",
        "12.21-13.05",
        "fastest matrix product",
        "between layers",
        "one at",
        "answer",
        "12345: ",
    ):
        assert words in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--batch", "dynamic"), "--batch dynamic: a benchmark times a number of images. Say --batch and a number."),
        (("--int8", "--graph", "plain"), "--int8 is of the folded graph. Add --graph folded."),
        (("--input-shape", "1,4,64,64"), "--input-shape has 4 channels, the model takes 3. Say 1,3,64,64."),
    ],
)
def test_options_that_do_not_go_together(
    cli: Cli, small: ModelCard, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    result = cli("benchmark", small.folder, "-o", tmp_path, *options)
    assert result.exit_code == 2
    assert says in result.error


@pytest.mark.parametrize("rounds", ["0", "1001", "seven", "7.0", "-1"])
def test_rounds_are_a_number_or_auto(cli: Cli, small: ModelCard, tmp_path: Path, rounds: str) -> None:
    result = cli("benchmark", small.folder, "-o", tmp_path, "--rounds", rounds)
    assert result.exit_code == 2
    assert "--rounds" in result.stderr


def test_without_a_checkpoint_it_says_what_to_run(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    result = cli("benchmark", small.folder, "-o", tmp_path)
    assert result.exit_code == 6
    assert "Run `pspnet-convert download` first" in result.error


def test_a_subject_that_does_not_run_is_named(small: ModelCard, tmp_path: Path) -> None:
    from pspnet_convert.commands.benchmark.figures import Setting, time_in_turns
    from pspnet_convert.errors import ArtifactError

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    setting = Setting(small, small.input.shape, Rounds(1, 1), {})
    with pytest.raises(ArtifactError, match=r"ONNX broken\.onnx does not run"):
        time_in_turns(setting, [[Subject("ONNX", "plain", "FP32", "f32", broken)]])


@pytest.mark.slow
def test_the_table_of_growth(small: ModelCard, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = small.folder / small.checkpoint.name
    bench_growth.main([str(small.folder), str(checkpoint), "--rounds", "1", "--smallest"])
    heading, rule, *rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert heading == list(bench_growth.HEADINGS) and len(rule) == len(heading)
    assert [row[:4] for row in rows] == [["256x256", "1", str(len(os.sched_getaffinity(0))), row[3]] for row in rows]
    assert rows[0][3] == "f32" and rows[1][3].startswith("default (")
    assert all(float(row[4]) > 0 and row[7].endswith("%") for row in rows)
