"""The IR: plain BGR in, the ONNX's names, two precisions; and the front-end's words if it fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from conftest import Cli, needs_mo, slow
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model, SegmentationModel
from PIL import Image as Pillow

from pspnet_convert.cards.card import ClassLabel, ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.to_ir.convert import convert_to_ir, model_api_settings
from pspnet_convert.commands.to_ir.front_ends import find_front_end
from pspnet_convert.image_shape import DYNAMIC, ImageShape
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend
from pspnet_convert.runtimes.images import read_image, to_bgr
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.openvino_install import has_model_optimizer

pytestmark = pytest.mark.openvino


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_names_shapes_and_types(folder: Path, precision: str) -> None:
    model = openvino.Core().read_model(str(folder / precision / "small-standin.xml"))
    (given,), (found,) = model.inputs, model.outputs
    assert "input.1" in given.get_names()
    assert list(given.get_shape()) == [1, 3, 72, 64]
    assert given.get_element_type() == openvino.Type.f32
    assert "segmentation_map" in found.get_names()
    assert list(found.get_shape()) == [1, 1, 72, 64]
    assert found.get_element_type() == openvino.Type.i64


def test_takes_bgr_bytes_where_the_onnx_takes_normalised_rgb(folder: Path, small: ModelCard) -> None:
    image = np.random.default_rng(3).integers(0, 256, (72, 64, 3), dtype=np.uint8)
    onnx_logits = next(OnnxBackend(folder / "small-standin.onnx", small, (1, 3, 72, 64)).run([image])).logits
    ir = OpenVinoBackend(folder / "FP32" / "small-standin.xml", small)
    assert np.abs(next(ir.run([image])).logits - onnx_logits).max() <= 1e-4 * np.abs(onnx_logits).max()
    swapped = next(ir.run([np.ascontiguousarray(image[:, :, ::-1])])).logits
    assert np.abs(swapped - onnx_logits).max() > 0.1 * np.abs(onnx_logits).max()


def test_fp16_halves_the_weights(folder: Path) -> None:
    sizes = {p: (folder / p / "small-standin.bin").stat().st_size for p in ("FP32", "FP16")}
    assert sizes["FP16"] == pytest.approx(sizes["FP32"] / 2, rel=0.01)


def test_no_path_of_the_machine_is_in_the_ir(folder: Path) -> None:
    for path in folder.glob("FP*/*.xml"):
        assert not re.search(r'value="/|output_dir|\.making-', path.read_text())


def in_model_api(path: Path) -> SegmentationModel:
    """The IR as Model API opens it by itself, except that the precision is set to f32."""
    f32 = {"INFERENCE_PRECISION_HINT": "f32"}
    model = Model.create_model(OpenvinoAdapter(create_core(), str(path), device="CPU", plugin_config=f32))
    assert type(model) is SegmentationModel
    return model


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_model_api_needs_no_settings(demo_run: Path, precision: str) -> None:
    card = find_card("demo")
    path = demo_run / "public" / "demo" / precision / "demo.xml"
    model = in_model_api(path)
    assert getattr(model, "params", model).labels == card.class_names  # `params` since 0.3
    backend = OpenVinoBackend(path, card)
    for picture in sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[:3]:
        image = to_bgr(read_image(picture))
        labels = model.infer_sync(model.preprocess(image)[0])[card.output.name][0, 0]
        assert len(np.unique(labels)) > 1
        assert np.array_equal(labels, next(backend.run([image])).labels)


@pytest.mark.parametrize(
    ("options", "shape", "form"),
    [
        slow(["--input-type", "u8"], (1, 3, 200, 200), InputForm("u8")),
        (["--input-type", "u8", "--input-layout", "NHWC"], (1, 3, 200, 200), InputForm("u8", "NHWC")),
        slow(["--batch", "dynamic", "--input-layout", "NHWC"], (DYNAMIC, 3, 200, 200), InputForm("f32", "NHWC")),
    ],
)
def test_model_api_opens_other_forms_too(
    cli: Cli, demo_run: Path, tmp_path: Path, options: list[str], shape: ImageShape, form: InputForm
) -> None:
    card = find_card("demo")
    shutil.copytree(demo_run, tmp_path / "out")
    assert cli("run", "demo", "-o", tmp_path / "out", *options).exit_code == 0
    path = tmp_path / "out" / "public" / "demo" / "FP32" / "demo.xml"
    model = in_model_api(path)
    image = to_bgr(read_image(sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[0]))
    labels = model.infer_sync(model.preprocess(image)[0])[card.output.name][0, 0]
    assert len(np.unique(labels)) > 1
    assert np.array_equal(labels, next(OpenVinoBackend(path, card, shape, form).run([image])).labels)


def test_model_api_takes_no_fixed_batch_of_several(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    """docs/open-model-zoo.md warns of it: when this test fails, the warning can go."""
    assert cli("run", small.folder, "-o", workspace, "--batch", 2).exit_code == 0
    with pytest.raises(RuntimeError, match="is not aligned with original parameter's shape"):
        in_model_api(folder / "FP32" / "small-standin.xml")


def test_model_api_scales_any_picture(demo_run: Path) -> None:
    card = find_card("demo")
    path = demo_run / "public" / "demo" / "FP32" / "demo.xml"
    model = in_model_api(path)
    picture = Pillow.fromarray(read_image(sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[0]))
    wide = picture.resize((320, 140), Pillow.Resampling.BICUBIC)
    labels = model.infer_sync(model.preprocess(to_bgr(np.asarray(wide)))[0])[card.output.name][0, 0]
    stretched = to_bgr(np.asarray(wide.resize((card.input.width, card.input.height), Pillow.Resampling.BILINEAR)))
    assert len(np.unique(labels)) > 1
    assert (labels == next(OpenVinoBackend(path, card).run([stretched])).labels).mean() > 0.99


def test_model_api_takes_the_argmax_of_a_label_map_once_more(demo_run: Path) -> None:
    """docs/open-model-zoo.md warns of it: when this test fails, the warning can go."""
    model = in_model_api(demo_run / "public" / "demo" / "FP32" / "demo.xml")
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        model(np.zeros((200, 200, 3), np.uint8))


def test_a_label_of_several_words_stays_one(small: ModelCard) -> None:
    classes = [*small.classes[:-1], ClassLabel(name="potted  plant", color=(1, 2, 3))]
    labels = model_api_settings(small.model_copy(update={"classes": classes}))["labels"]
    assert labels.split() == [*small.class_names[:-1], "potted_plant"]


def test_only_the_precision_asked_for(cli: Cli, small: ModelCard, folder: Path, workspace: Path) -> None:
    for path in folder.glob("FP*/*"):
        path.unlink()
    assert cli("to-ir", small.folder, "-o", workspace, "--precision", "FP16").exit_code == 0
    assert sorted(path.name for path in folder.glob("FP*/*")) == ["small-standin.bin", "small-standin.xml"]
    assert (folder / "FP16" / "small-standin.xml").exists()


def test_the_front_ends_output_goes_to_the_debug_log(cli: Cli, small: ModelCard, workspace: Path) -> None:
    quiet = cli("to-ir", small.folder, "-o", workspace, "--force")
    assert quiet.stderr.splitlines() == ["to-ir: small-standin", quiet.stderr.splitlines()[-1]]
    loud = cli("to-ir", small.folder, "-o", workspace, "--force", "--debug")
    assert "Traceback" not in loud.stderr
    assert "Model Optimizer: " in loud.stderr or not has_model_optimizer()


@needs_mo
def test_mo_arg_reaches_model_optimizer(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    result = cli("to-ir", small.folder, "-o", workspace, "--mo-arg", "static_shape", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.json()[0]["options"]["mo_args"] == {"static_shape": True}
    assert "<static_shape value" in (folder / "FP32" / "small-standin.xml").read_text()


@needs_mo
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("nonsense", "Model Optimizer refuses: Unrecognized argument: nonsense"),
        ("transform=Nonsense", "Model Optimizer refuses: Following transformations (Nonsense) are not available"),
        ("mean_values=[1,2,3]", "--mo-arg mean_values: is set from the card"),
    ],
)
def test_its_errors_go_to_the_user_and_the_old_ir_stays(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, argument: str, words: str
) -> None:
    before = {path: path.read_bytes() for path in folder.glob("FP*/*")}
    result = cli("to-ir", small.folder, "-o", workspace, "--mo-arg", argument)
    assert result.exit_code == 8
    assert words in result.error
    assert {path: path.read_bytes() for path in folder.glob("FP*/*")} == before


# Model Optimizer takes a comma in a path for the end of that path.
ODD_NAME = "a, b; c:d [e] {f} (g) ü日 'h' \"i\" %20 #? & * $x \\y=z!"


@pytest.mark.parametrize("front_end", [pytest.param("mo", marks=needs_mo), "ovc"])
def test_the_output_folder_may_have_any_name(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, front_end: str
) -> None:
    odd = shutil.copytree(workspace, tmp_path / ODD_NAME)
    for place in (workspace, odd):
        result = cli("run", small.folder, "-o", place, "--front-end", front_end)
        assert result.exit_code == 0, result.stderr
    for path in folder.glob("FP*/*"):
        assert (odd / path.relative_to(workspace)).read_bytes() == path.read_bytes()


def _renamed(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in [*model.graph.input, *model.graph.output]:
        value.name = new if value.name == old else value.name


@pytest.mark.parametrize("name", ["input.1", "segmentation_map"])
@pytest.mark.parametrize(("command", "code"), [("to-ir", 11), ("verify", 9)])
def test_an_onnx_without_the_cards_names(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, name: str, command: str, code: int
) -> None:
    path = folder / "small-standin.onnx"
    model = onnx.load(str(path))
    _renamed(model, name, "something")
    onnx.save(model, str(path))
    result = cli(command, small.folder, "-o", workspace)
    assert result.exit_code == code
    assert f"something {'float32' if name == 'input.1' else 'int64'}" in result.error
    assert f", expected {name} " in result.error


@pytest.mark.parametrize("command", ["to-ir", "verify"])
@pytest.mark.parametrize("data", [b"", b"no protobuf at all", bytes(range(256))])
def test_a_file_that_is_no_onnx(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, command: str, data: bytes
) -> None:
    (folder / "small-standin.onnx").write_bytes(data)
    result = cli(command, small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert "is not an ONNX file" in result.error


def test_an_onnx_with_weights_in_other_files(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    path = folder / "small-standin.onnx"
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    result = cli("to-ir", small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert "has weights in other files" in result.error


def test_a_missing_stage_is_an_error_that_says_what_to_run(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    for command, stage in [("to-ir", "export-onnx"), ("verify", "export-onnx")]:
        result = cli(command, small.folder, "-o", tmp_path)
        assert result.exit_code == 11
        assert f"is not there yet. Run `pspnet-convert {stage}` first" in result.error


def test_a_broken_ir(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    path = folder / "FP32" / "small-standin.xml"
    path.write_text("<net>")
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert "is not an IR that OpenVINO reads" in result.error
    path.with_suffix(".bin").unlink()
    assert "is not there yet" in cli("verify", small.folder, "-o", workspace).error


def test_a_removed_folder_is_not_made_again(small: ModelCard, folder: Path, tmp_path: Path) -> None:
    """As if the front-end's parent was killed and the next run has removed its folder."""
    with pytest.raises(FileNotFoundError):
        convert_to_ir(
            folder / "small-standin.onnx", small, {"FP32": tmp_path / "swept" / "small.xml"}, find_front_end("auto", {})
        )
    assert list(tmp_path.glob("swept")) == []
