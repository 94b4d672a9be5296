"""`quantize --max-drop` where plain INT8 loses more: networks that were trained, and spoilt on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openvino
import pytest
import voc
from conftest import LENIENT, Cli, Result, call
from hypothesis import given
from hypothesis import strategies as st
from spoilt import write_spoilt

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.quantize import search as searching
from pspnet_convert.commands.quantize.calibrate import calibration_images, write_int8
from pspnet_convert.commands.quantize.layer_errors import layer_errors, quantized_layers, with_one_layer
from pspnet_convert.commands.quantize.recipe import Recipe
from pspnet_convert.commands.quantize.search import Aim, accurate_ways, growing
from pspnet_convert.manifest_document import Stages
from pspnet_convert.manifest_fields import RecipeRecord, SearchResult, Tried
from pspnet_convert.report_page import charts
from pspnet_convert.runtimes.input_form import PLAIN
from pspnet_convert.runtimes.openvino_install import operations


@dataclass(frozen=True)
class Spoilt:
    """A converted network that INT8 does not suit."""

    card: ModelCard
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / "public" / self.card.name

    def ir(self, precision: str) -> Path:
        return self.folder / precision / f"{self.card.name}.xml"

    @property
    def search(self) -> dict[str, Any]:
        """What the manifest holds of the search."""
        result: dict[str, Any] = self.stages["search-int8"]["result"]
        return result

    @property
    def stages(self) -> dict[str, Any]:
        stages: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())["stages"]
        return stages

    def quantize(self, *arguments: object) -> Result:
        return call("quantize", self.card.folder, "-o", self.out, *arguments)


def converted(folder: Path, kind: str) -> Spoilt:
    card = find_card(str(write_spoilt(folder / "model", kind)))
    done = call("run", card.folder, "-o", folder / "out")
    assert done.exit_code == 0, done.stderr
    return Spoilt(card, folder / "out")


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Spoilt:
    return converted(tmp_path_factory.mktemp("loud"), "loud-channels")


@pytest.fixture(scope="module")
def late(loud: Spoilt) -> tuple[Spoilt, Result]:
    """The search without any time: plain INT8 alone."""
    result = loud.quantize("--max-drop", 0.3, "--time-limit", 0)
    return loud, result


@pytest.fixture(scope="module")
def restored(late: tuple[Spoilt, Result]) -> tuple[Spoilt, Result]:
    """The same search with time."""
    spoilt, _ = late
    return spoilt, spoilt.quantize("--max-drop", 0.3)


def tries(spoilt: Spoilt) -> dict[str, int]:
    """When each IR that was kept was written, by the name of its folder."""
    return {path.parent.name: path.stat().st_mtime_ns for path in spoilt.folder.glob("INT8-tries/*/*.xml")}


# Trained networks


@pytest.mark.slow
def test_a_spoilt_network_loses_much_in_plain_int8(late: tuple[Spoilt, Result]) -> None:
    """And with no time left, the table says what was tried and what was not."""
    spoilt, result = late
    assert result.exit_code == 16
    (plain,) = spoilt.search["tried"]
    assert plain["name"] == spoilt.search["chosen"] == "plain"
    assert plain["drop"] >= 3
    assert f"IR INT8 is {plain['drop']:.2f} points below IR FP32, 0.3 allowed" in result.error
    assert "Tried, to lose at most 0.3 points of mean IoU" in result.stdout
    assert "No time for: mixed preset, accurate bias correction, SmoothQuant 0.5" in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 120


@pytest.mark.slow
def test_a_spoilt_network_is_brought_within_the_drop(restored: tuple[Spoilt, Result]) -> None:
    spoilt, result = restored
    assert result.exit_code == 0, result.stderr
    search = spoilt.search
    assert search["tried"][-1]["name"] == search["chosen"]
    assert search["tried"][-1]["drop"] <= 0.3
    assert all(one["drop"] > 0.3 for one in search["tried"][:-1])
    assert search["not_tried"] == []
    kept = spoilt.folder / search["tried"][-1]["files"][1]["file"]
    assert kept.read_bytes() == spoilt.ir("INT8").read_bytes()
    fp32, int8 = spoilt.stages["evaluate-int8"]["result"]["scores"]
    assert fp32["mean_iou"] - int8["mean_iou"] == search["tried"][-1]["drop"]
    assert spoilt.stages["verify-int8"]["result"]["verdict"] == "pass"
    assert spoilt.stages["quantize"]["inputs"]["recipe"] == search["tried"][-1]["recipe"]


@pytest.mark.slow
def test_what_was_tried_is_not_tried_again(
    late: tuple[Spoilt, Result], restored: tuple[Spoilt, Result], tmp_path: Path
) -> None:
    """The plain one was there when the search went on. Then a search with other aims finds all that was tried."""
    spoilt, result = restored
    assert result.stderr.count("quantize: demo-loud-channels") == len(spoilt.search["tried"]) - 1
    copy = Spoilt(spoilt.card, shutil.copytree(spoilt.out, tmp_path / "copy"))
    before = tries(copy)
    again = copy.quantize("--max-drop", 0.3, "--json")
    assert [stage["skipped"] for stage in again.json()["stages"]] == [True, True, True, True]
    lenient = copy.quantize("--max-drop", 50)
    assert lenient.exit_code == 0, lenient.stderr
    assert copy.search["chosen"] == "plain"
    assert len(copy.search["tried"]) == len(spoilt.search["tried"])
    assert copy.ir("INT8").read_bytes() == next(copy.folder.glob("INT8-tries/plain/*.xml")).read_bytes()
    assert tries(copy) == before
    next(copy.folder.glob("INT8-tries/plain/*.bin")).write_bytes(b"broken")
    assert copy.quantize("--max-drop", 50).exit_code == 0
    assert {name for name, when in tries(copy).items() if when != before[name]} <= {"plain"}
    assert copy.ir("INT8").with_suffix(".bin").stat().st_size > 6
    assert copy.quantize("--max-drop", 50).exit_code == 0


@pytest.mark.slow
def test_a_way_is_reproducible_to_the_byte(restored: tuple[Spoilt, Result], tmp_path: Path) -> None:
    spoilt, _ = restored
    images = calibration_images(spoilt.card, None, 300)
    recipe = Recipe.from_record(spoilt.search["tried"][-1]["recipe"])
    made = tmp_path / "int8.xml"
    write_int8(spoilt.ir("FP32"), spoilt.card, spoilt.card.input.shape, PLAIN, images, made, recipe=recipe)
    assert made.read_bytes() == spoilt.ir("INT8").read_bytes()
    assert made.with_suffix(".bin").read_bytes() == spoilt.ir("INT8").with_suffix(".bin").read_bytes()


@pytest.mark.slow
def test_the_report_has_the_plot(restored: tuple[Spoilt, Result]) -> None:
    spoilt, _ = restored
    assert call("report", spoilt.card.folder, "-o", spoilt.out).exit_code == 0
    page = (spoilt.folder / "report.html").read_text()
    assert page.count("<circle") >= len(spoilt.search["tried"])
    assert page.count('<b class="good">chosen</b>') == 1
    assert "to lose at most 0.3 points of mean IoU" in page


@pytest.mark.slow
def test_the_errors_of_layers_are_kept_when_it_is_interrupted(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(names: Sequence[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(searching, "growing", interrupt)
    monkeypatch.setattr(searching, "accurate_ways", lambda aim: [])
    dataset = voc.write(tmp_path / "voc", small, [(72, 64), (72, 64)])
    common = ("-o", workspace, "--min-agreement", 0, "--dataset", dataset, "--subset-size", 1, "--max-drop", 0)
    assert cli("quantize", small.folder, *common).exit_code == 130
    manifest = json.loads((workspace / "public" / small.name / "manifest.json").read_text())
    assert manifest["stages"]["search-int8"]["result"]["layers"]


@pytest.mark.slow
def test_outliers_are_found_and_overcome(tmp_path: Path) -> None:
    spoilt = converted(tmp_path, "outliers")
    result = spoilt.quantize("--max-drop", 0.3)
    assert result.exit_code == 0, result.stderr
    assert spoilt.search["tried"][0]["drop"] >= 3
    assert spoilt.search["tried"][-1]["drop"] <= 0.3


@pytest.mark.slow
def test_layers_are_left_out_at_last(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    """Of random weights, which decide little: no way of quantizing loses nothing."""
    dataset = voc.write(tmp_path / "voc", small, [(72, 64), (72, 64)])
    common = (small.folder, "-o", workspace, "--min-agreement", 0, "--dataset", dataset, "--subset-size", 1)
    result = cli("quantize", *common, "--max-drop", 0)
    search = json.loads((workspace / "public" / small.name / "manifest.json").read_text())["stages"]["search-int8"]
    tried = search["result"]["tried"]
    assert result.exit_code == (0 if tried[-1]["drop"] <= 0 else 16)
    without = [one for one in tried if one["name"].startswith("without ")]
    errors = search["result"]["layers"]
    assert [one["error"] for one in errors] == sorted((one["error"] for one in errors), reverse=True)
    names = [one["name"] for one in errors]
    assert [one["recipe"]["ignored"] for one in without] == [names[: 2**step] for step in range(len(without))]
    if result.exit_code == 16:
        assert len(without[-1]["recipe"]["ignored"]) <= len(errors) / 2 < 2 * len(without[-1]["recipe"]["ignored"])
        assert search["result"]["chosen"] == min(tried, key=lambda one: one["drop"])["name"]


def test_the_first_try_is_enough_where_it_loses_little(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    """Then nothing is kept, and there is no search to report."""
    dataset = voc.write(tmp_path / "voc", small, [(72, 64)])
    result = cli("quantize", small.folder, "-o", workspace, *LENIENT, "--dataset", dataset, "--max-drop", 100)
    assert result.exit_code == 0, result.stderr
    folder = workspace / "public" / small.name
    assert "search-int8" not in json.loads((folder / "manifest.json").read_text())["stages"]
    assert not (folder / "INT8-tries").exists()


def test_a_time_limit_needs_a_drop(cli: Cli, small: ModelCard, workspace: Path) -> None:
    result = cli("quantize", small.folder, "-o", workspace, "--time-limit", 5)
    assert result.exit_code == 2
    assert "--time-limit is for --max-drop" in result.error


# The order of the ways


@given(st.lists(st.text(), unique=True))
def test_layers_are_left_out_in_doubling_numbers_up_to_half(names: Sequence[str]) -> None:
    chosen = list(growing(names))
    assert chosen == [names[: 2**step] for step in range(len(chosen))]
    assert all(len(one) <= len(names) / 2 for one in chosen)
    assert len(names) < 2 or 2 * len(chosen[-1]) > len(names) / 2


@pytest.mark.parametrize("full", [False, True])
def test_weights_get_all_bits_only_where_no_sum_overflows(full: bool) -> None:
    ways = [name for name, _ in accurate_ways(Aim(1, None, full))]
    assert ("8-bit weights" in ways) == full
    assert ways[-1].startswith("SmoothQuant")


# The error of each layer


@pytest.fixture(scope="module")
def pair(quantized: Path, small: ModelCard) -> list[Path]:
    return [quantized / "public" / small.name / one / f"{small.name}.xml" for one in ("FP32", "INT8")]


def read(path: Path) -> openvino.Model:
    return openvino.Core().read_model(str(path))


def test_one_layer_at_a_time_is_quantized(pair: list[Path]) -> None:
    fp32, int8 = map(read, pair)
    names = quantized_layers(fp32, int8)
    convolutions = [op.get_friendly_name() for op in fp32.get_ordered_ops() if op.get_type_name() == "Convolution"]
    assert set(convolutions) <= set(names)
    for name in names:
        made = with_one_layer(fp32, int8, name)
        kinds = [op.get_type_name() for op in made.get_ordered_ops()]
        expected = 2 if name not in convolutions else 1
        assert 1 <= kinds.count("FakeQuantize") <= expected
        constants = [op for op in made.get_ops() if op.get_type_name() == "Constant"]
        weights = [op for op in constants if op.get_element_type().get_type_name() == "i8"]
        assert len(weights) == (name in convolutions)


def test_the_layer_that_is_spoilt_has_the_largest_error(pair: list[Path], small: ModelCard, tmp_path: Path) -> None:
    """The range of one layer's input is a hundredth of what it should be."""
    fp32, int8 = map(read, pair)
    layer = quantized_layers(fp32, int8)[5]
    node = next(op for op in int8.get_ops() if op.get_friendly_name() == layer)
    fake = node.input_value(0).get_node()
    assert fake.get_type_name() == "FakeQuantize"
    for port in range(1, 5):
        limit = fake.input_value(port).get_node()
        fake.input(port).replace_source_output(operations().constant(limit.data / 100).output(0))
    spoilt = tmp_path / "spoilt.xml"
    openvino.save_model(int8, str(spoilt), compress_to_fp16=False)
    images = calibration_images(small, None, 2)
    found = layer_errors(pair[0], spoilt, small, small.input.shape, PLAIN, images)
    before = layer_errors(*pair, small, small.input.shape, PLAIN, images)
    assert found[0][0] == layer
    assert found[0][1] > 3 * dict(before)[layer]
    assert [error for _, error in before] == sorted((error for _, error in before), reverse=True)


# The plot


def tried(name: str, speed: float, drop: float) -> Tried:
    recipe = RecipeRecord(preset="mixed", overflow_fix="enable", accurate_bias=False, smooth=None, ignored=[name])
    return Tried(name=name, recipe=recipe, mean_iou=90 - drop, drop=drop, speed=speed, bytes=1, files=[])


def test_the_frontier_joins_the_ways_that_none_beats() -> None:
    rows = [tried("a", 1.0, 4), tried("b", 0.9, 5), tried("c", 0.8, 1), tried("d", 0.7, 0.2)]
    result = SearchResult(max_drop=0.5, tried=rows, layers=None, chosen="d", not_tried=[])
    search = SimpleNamespace(result=result, inputs=SimpleNamespace(images=["a.jpg"]))

    def drawn(image: str) -> charts.Plot:
        made = SimpleNamespace(inputs=SimpleNamespace(recipe=rows[3].recipe, images=[image]))
        plot = charts.tried(Stages({"search-int8": search, "quantize": made}))
        assert plot is not None
        return plot

    plot = drawn("a.jpg")
    assert [(one.tried.name, next_.tried.name) for one, next_ in plot.frontier] == [("d", "c"), ("c", "a")]
    assert [point.is_chosen for point in plot.points] == [False, False, False, True]
    assert all(0 < value < 100 for point in plot.points for value in (point.x, point.y))
    assert plot.points[3].y < plot.line < plot.points[2].y
    assert not any(point.is_chosen for point in drawn("b.jpg").points)  # the same recipe, other images
    assert charts.tried(Stages()) is None
