"""Pictures of each model's labels, and of the pixels that differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from conftest import Cli
from faults import Fault, make
from PIL import Image

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.answers import Answers, AnswersInChildren
from pspnet_convert.commands.verify.candidates import Candidate
from pspnet_convert.errors import ArtifactError
from pspnet_convert.files import slug
from pspnet_convert.runtimes.openvino_install import operations


def pictures(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}


def test_run_leaves_what_each_model_saw(small: ModelCard, small_run: Path) -> None:
    folder = small_run / "public" / "small-standin" / "verification"
    assert pictures(folder) == {
        f"sheet.{kind}.png" for kind in ("input", "reference", "margin", "onnx", "ir-fp32", "ir-fp16")
    }
    reference, found = (Image.open(folder / f"sheet.{kind}.png") for kind in ("reference", "ir-fp32"))
    assert reference.mode == found.mode == "P"
    assert reference.size == (small.input.width, small.input.height)
    assert reference.getpalette()[:15] == [value for colour in small.palette for value in colour]  # type: ignore[index]
    assert len(np.unique(np.asarray(reference))) > 1
    np.testing.assert_array_equal(np.asarray(found), np.asarray(reference))


def test_pictures_of_another_set_do_not_stay(cli: Cli, small: ModelCard, workspace: Path) -> None:
    photo = workspace / "photo.png"
    Image.new("RGB", (30, 20), "red").save(photo)
    folder = workspace / "public" / "small-standin" / "verification"
    assert cli("verify", small.folder, "-o", workspace, "--images", photo).exit_code == 0
    assert "photo.png.reference.png" in pictures(folder)
    assert cli("verify", small.folder, "-o", workspace).exit_code == 0
    assert "photo.png.reference.png" not in pictures(folder)


def test_two_images_with_the_same_name_get_different_names(cli: Cli, small: ModelCard, workspace: Path) -> None:
    places = [workspace / "a" / "photo.png", workspace / "b" / "photo.png"]
    for place, colour in zip(places, ("red", "green")):
        place.parent.mkdir()
        Image.new("RGB", (30, 20), colour).save(place)
    result = cli(
        "verify", small.folder, "-o", workspace, "--images", places[0], "--images", places[1], "--json"
    )  # fmt: skip
    assert result.json()["stages"][0]["result"]["inputs"] == ["sheet", "photo.png", "photo.png-2"]


@pytest.fixture(scope="module")
def right_and_wrong(small: ModelCard, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of the small network: right.onnx, right.xml, half.xml, swapped.xml. Read only."""
    folder = tmp_path_factory.mktemp("elsewhere")
    right = folder / "right.onnx"
    shutil.copy(small_run / "public" / "small-standin" / "small-standin.onnx", right)
    swapped = Fault("swapped", "IR FP32", preprocessing={"color_order": "BGR"})
    for name, fault in [("right", Fault("none", "IR FP32")), ("half", Fault("none", "IR FP16")), ("swapped", swapped)]:
        made = make(fault, small, right, folder)
        for suffix in (".xml", ".bin"):
            made.with_suffix(suffix).rename(folder / f"{name}{suffix}")
    return folder


@pytest.fixture
def elsewhere(right_and_wrong: Path, workspace: Path) -> Path:
    """A copy of these models, to break."""
    return shutil.copytree(right_and_wrong, workspace / "elsewhere")


def test_files_from_elsewhere_are_compared_and_the_manifest_stays(
    cli: Cli, small: ModelCard, workspace: Path, elsewhere: Path
) -> None:
    manifest = workspace / "public" / "small-standin" / "manifest.json"
    before = manifest.read_bytes()
    files = ["--onnx", elsewhere / "right.onnx", "--ir", elsewhere / "right.xml", "--ir", elsewhere / "half.xml"]
    result = cli("verify", small.folder, "-o", workspace, *files, "--json")
    assert result.exit_code == 0, result.stderr
    rows = result.json()["stages"][0]["result"]["comparisons"]
    assert {row["backend"]: row["precision"] for row in rows} == {
        "ONNX right.onnx": "f32",
        "IR right.xml": "f32",
        "IR half.xml": "FP16",
    }
    assert manifest.read_bytes() == before


def test_differences_are_drawn_side_by_side(
    cli: Cli, small: ModelCard, workspace: Path, elsewhere: Path, tmp_path: Path
) -> None:
    target = tmp_path / "differences"
    files = ["--ir", elsewhere / "right.xml", "--ir", elsewhere / "swapped.xml"]
    result = cli("verify", small.folder, "-o", workspace, *files, "--save-diff", target)
    assert result.exit_code == 9
    assert "IR swapped.xml differs from the reference: logits: sheet: logit error" in result.error
    assert pictures(target) == {"sheet.ir-swapped-xml.difference.png"}
    drawn = np.asarray(Image.open(target / "sheet.ir-swapped-xml.difference.png"))
    height, width = small.input.height, small.input.width
    different = drawn[-height:, 3 * (width + 4) : 3 * (width + 4) + width]
    marked = int((different == (255, 0, 0)).all(axis=2).sum())
    (row,) = [
        row
        for row in cli("verify", small.folder, "-o", workspace, *files, "--json").json()["stages"][0]["result"][
            "comparisons"
        ]
        if row["backend"] == "IR swapped.xml"
    ]
    assert marked == row["differing"] > 0


def test_a_run_that_agrees_has_no_differences_to_draw(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    result = cli("verify", small.folder, "-o", workspace, "--save-diff", tmp_path / "none", "--json")
    assert result.exit_code == 0
    assert result.json()["stages"][0]["skipped"]  # drawn from the pictures of the run before
    differing = {row["backend"] for row in result.json()["stages"][0]["result"]["comparisons"] if row["differing"]}
    assert pictures(tmp_path / "none") == {f"sheet.{slug(name)}.difference.png" for name in differing}


def test_models_with_similar_names_do_not_share_a_picture(
    cli: Cli, small: ModelCard, workspace: Path, elsewhere: Path
) -> None:
    for name, source in (("a_b", "swapped"), ("a-b", "right")):
        for suffix in (".xml", ".bin"):
            shutil.copy(elsewhere / f"{source}{suffix}", elsewhere / f"{name}{suffix}")
    files = ["--ir", elsewhere / "a_b.xml", "--ir", elsewhere / "a-b.xml"]
    target = workspace / "differences"
    result = cli("verify", small.folder, "-o", workspace, *files, "--save-diff", target, "--json")
    rows = result.json()["stages"][0]["result"]["comparisons"]
    assert {row["backend"]: row["passed"] for row in rows} == {"IR a_b.xml": False, "IR a-b.xml-2": True}
    assert pictures(target) == {"sheet.ir-a-b-xml.difference.png"}


def test_a_last_step_that_takes_other_logits_is_a_fault(
    cli: Cli, small: ModelCard, workspace: Path, elsewhere: Path
) -> None:
    """Channels last before the argmax: the labels are the same, but the last step cannot be tested by itself."""
    model = openvino.Core().read_model(str(elsewhere / "right.xml"))
    topk = next(node for node in model.get_ops() if node.get_type_name() == "TopK")
    ops = operations()
    logits = topk.input_value(0)
    sensitivity = ops.transpose(logits, ops.constant([0, 2, 3, 1]))
    best = ops.topk(sensitivity, ops.constant(1), 3, "max", "none", index_element_type="i64")
    labels = ops.transpose(best.output(1), ops.constant([0, 3, 1, 2]))
    labels.output(0).set_names({small.output.name})
    changed = openvino.Model([labels], model.get_parameters())
    openvino.save_model(changed, str(elsewhere / "last.xml"), compress_to_fp16=False)
    result = cli("verify", small.folder, "-o", workspace, "--ir", elsewhere / "last.xml")
    assert result.exit_code == 9
    assert "IR last.xml differs from the reference: " in result.error


@pytest.mark.parametrize("option", ["--onnx", "--ir"])
def test_a_file_from_elsewhere_that_is_not_there(cli: Cli, small: ModelCard, workspace: Path, option: str) -> None:
    result = cli("verify", small.folder, "-o", workspace, option, "missing.xml")
    assert result.exit_code == 11
    assert "missing.xml: there is no such file" in result.error


def test_an_ir_that_openvino_does_not_compile(cli: Cli, small: ModelCard, workspace: Path) -> None:
    """A resize with a rule that the CPU plugin does not know."""
    path = workspace / "public" / "small-standin" / "FP32" / "small-standin.xml"
    path.write_text(path.read_text().replace('mode="linear_onnx"', 'mode="linear_nonsense"'))
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert "small-standin.xml: " in result.error


def test_the_row_at_the_default_precision_does_not_affect_the_verdict(
    cli: Cli, small: ModelCard, workspace: Path
) -> None:
    result = cli("verify", small.folder, "-o", workspace, "--at-default-precision", "--json")
    assert result.exit_code == 0
    rows = {row["backend"]: row for row in result.json()["stages"][0]["result"]["comparisons"]}
    default = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    assert {name for name, row in rows.items() if row["informative"]} == {
        f"IR FP32 at {default}",
        f"IR FP16 at {default}",
    }
    assert rows[f"IR FP32 at {default}"]["agreement"] > 0.9
    table = cli("verify", small.folder, "-o", workspace, "--at-default-precision")
    assert f"IR FP32 at {default}" in table.stdout
    assert "(pass)" in table.stdout


def test_a_failure_to_compile_at_the_default_precision_is_reported_and_does_not_affect_the_verdict(
    cli: Cli, small: ModelCard, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = AnswersInChildren._ask

    def at_f32_alone(self: AnswersInChildren, candidate: Candidate, folder: Path) -> Answers:
        if candidate.model.at_default_precision:
            raise ArtifactError("OpenVINO does not compile it: no such primitive")
        return ask(self, candidate, folder)

    monkeypatch.setattr(AnswersInChildren, "_ask", at_f32_alone)
    report = workspace / "junit.xml"
    result = cli("verify", small.folder, "-o", workspace, "--at-default-precision", "--junit", report, "--json")
    assert result.exit_code == 0, result.stderr
    rows = result.json()["stages"][0]["result"]["comparisons"]
    assert [row["passed"] for row in rows] == [not row["informative"] for row in rows]
    for row in (row for row in rows if row["informative"]):
        (fault,) = (fault for check in row["checks"] for fault in check["faults"])
        assert "OpenVINO does not compile it: no such primitive" in fault
    assert report.is_file()


def test_a_graph_with_a_cycle_causes_no_endless_search(cli: Cli, small: ModelCard, workspace: Path) -> None:
    path = workspace / "public" / "small-standin" / "small-standin.onnx"
    model = onnx.load(str(path))
    (argmax,) = [node for node in model.graph.node if node.op_type == "ArgMax"]
    argmax.op_type = "Identity"
    del argmax.attribute[:]
    argmax.input[0] = argmax.output[0]
    onnx.save(model, str(path))
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code in (9, 11)
    assert "small-standin.onnx" in result.error
