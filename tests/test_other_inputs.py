"""Models whose images are no pictures of three colours: grey, 16 bits, radar, many bands; the whole chain."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import numpy as np
import openvino
import other_inputs as others
import pytest
import voc
import yaml
from bundles import unpacked
from conftest import Cli, needs_mo, slow
from irs import assert_equal_from_outside
from manifests import read as read_manifest
from other_inputs import Kind, Own, make_own
from PIL import Image as Pillow

from pspnet_convert.cards.card import Input, load_card
from pspnet_convert.commands.to_ir.convert import convert_to_ir
from pspnet_convert.commands.to_ir.front_ends import ModelOptimizer, Ovc
from pspnet_convert.commands.verify.inputs import own_sheet
from pspnet_convert.commands.verify.preprocessing import check_preprocessing
from pspnet_convert.errors import ImageError, OptionError
from pspnet_convert.runtimes.backends import OpenVinoBackend
from pspnet_convert.runtimes.images import picture_size
from pspnet_convert.runtimes.input_form import PLAIN, InputForm
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.openvino_install import has_model_optimizer
from pspnet_convert.runtimes.value_range import check_type, ranges_of_ir, value_ranges

FRONT_ENDS = [Ovc(), *([ModelOptimizer()] if has_model_optimizer() else [])]
KINDS = {
    "grey": others.GREY,
    "grey of 16 bits": others.GREY_16,
    "radar": others.RADAR,
    "four bands": others.FOUR,
    "four in a PNG": others.RGBA,
    "arrays": others.ARRAYS,
    "three of 16 bits": others.THREE_16,
    "far from zero": others.FAR,
    "minute values": others.MINUTE,
    "thirteen bands": others.THIRTEEN,
}
SHORT = ("grey of 16 bits", "four bands")


def kinds(*short: str, without: str = "") -> list[Any]:
    """All kinds but one as parameters; those that are not `short` are slow."""
    return [name if name in short else slow(name) for name in KINDS if name != without]


def input_of(mean: Sequence[float], scale: Sequence[float]) -> Input:
    channels = len(mean)
    return Input(
        name="a",
        shape=(1, channels, 40, 50),
        layout="NCHW",
        color_order="RGB" if channels == 3 else "as stored",
        mean=tuple(mean),
        scale=tuple(scale),
        converted_color_order="BGR" if channels == 3 else "as stored",
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Own]:
    """The model of a kind, made once."""
    made: dict[str, Own] = {}

    def make(name: str) -> Own:
        if name not in made:
            made[name] = make_own(tmp_path_factory.mktemp("own"), KINDS[name])
        return made[name]

    return make


@pytest.fixture(scope="module")
def four(own: Callable[[str], Own], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Own, Path]]:
    """The model of four bands, run once on its images, with an IR of 16-bit numbers; and its output folder."""
    from click.testing import CliRunner

    from pspnet_convert.cli import cli as command_line

    model, out = own("four bands"), tmp_path_factory.mktemp("four")
    images = [word for path in model.images for word in ("--images", path)]
    arguments = ["run", *model.given, "-o", out, "--input-type", "u16", "--input-layout", "NHWC", *images]
    done = CliRunner().invoke(command_line, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    yield model, out


def folder_of(out: Path) -> Path:
    return out / "public" / "bands"


# The whole chain


def test_card_metadata_and_page_say_that_channels_stay_as_they_are(cli: Cli, four: tuple[Own, Path]) -> None:
    folder = folder_of(four[1])
    card = yaml.safe_load((folder / "model.yml").read_text())["input"]
    assert (card["shape"], card["color_order"]) == ([1, 4, 48, 64], "as stored")
    assert (card["mean"], card["converted_color_order"]) == ([1200, 900.5, 3000, 10], "as stored")
    assert "IR: channels and values as stored" in cli("info", folder).stdout
    for precision in ("FP32", "FP16"):
        ir = openvino.Core().read_model(str(folder / precision / "bands.xml"))
        assert ir.get_rt_info(["model_info", "channel_order"]).astype(str) == "as stored"
        assert ir.inputs[0].get_element_type() == openvino.Type.u16
        assert list(ir.inputs[0].shape) == [1, 48, 64, 4]
    page = (folder / "report.html").read_text()
    assert "uint16 1 x 48 x 64 x 4, channels and values as stored: mean and scale are in the model" in page
    assert "np.load(" in page and "Image.open(" not in page


def test_verification_probes_each_channel(four: tuple[Own, Path]) -> None:
    result = read_manifest(folder_of(four[1]))["stages"]["verify"]["result"]
    assert set(result["sensitivity"]) == {
        "two channels swapped",
        "one channel off by a 255th of its range",
        "a shift by one pixel",
    }
    assert result["preprocessing"]["passed"]
    assert result["preprocessing"]["what"].startswith("a drawn image becomes the tensor")
    assert result["inputs"] == ["sheet", "000.tif", "001.tif", "002.tif"]
    for name in result["inputs"]:
        with Pillow.open(folder_of(four[1]) / "verification" / f"{name}.input.png") as picture:
            assert (picture.mode, picture.size) == ("RGB", (64, 48))


def test_segment_labels_as_mmsegmentation_does(cli: Cli, four: tuple[Own, Path], tmp_path: Path) -> None:
    model, out = four
    image = next(path for path in model.images if path.stem == "002")  # of the model's size
    array = tmp_path / "array.npy"
    np.save(array, model.kind.array(48, 64, 2))
    done = cli("segment", image, array, "--model", folder_of(out), "-o", out)
    assert done.exit_code == 0, done.stderr
    (expected,) = theirs.labels_of(model.config, model.checkpoint, [image])
    for name in ("002", "array"):
        with Pillow.open(folder_of(out) / "segmented" / f"{name}.labels.png") as picture:
            assert np.array_equal(np.asarray(picture), expected)


def test_a_picture_becomes_grey_as_the_pipeline_makes_it(cli: Cli, tmp_path: Path) -> None:
    from mmengine.config import Config

    model = make_own(tmp_path, replace(others.GREY, loader={}))
    config = Config.fromfile(str(model.config))
    for pipeline in (config.test_dataloader.dataset.pipeline, config.test_pipeline):
        pipeline.insert(1, {"type": "RGB2Gray", "out_channels": 1})
    config.dump(str(model.config))
    picture = tmp_path / "picture.png"
    Pillow.fromarray(voc.drawing(*theirs.CROP, 1)).save(picture)
    assert cli("run", *model.given, "-o", tmp_path / "out", "--images", picture).exit_code == 0
    done = cli("segment", picture, "--model", folder_of(tmp_path / "out"), "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    found = np.asarray(Pillow.open(folder_of(tmp_path / "out") / "segmented" / "picture.labels.png"))
    (expected,) = theirs.labels_of(model.config, model.checkpoint, [picture])
    assert (found == expected).mean() > 0.999  # a pixel may be a near-tie


def test_the_models_that_come_after(cli: Cli, four: tuple[Own, Path], tmp_path: Path) -> None:
    model, out = four
    copy = shutil.copytree(out, tmp_path / "out")
    folder, place = folder_of(copy), ("-o", copy)
    calibrated = cli("quantize", folder, *place, "--calibration", model.images[0].parent, "--min-agreement", 0.3)
    assert calibrated.exit_code == 0, calibrated.stderr
    assert cli("segment", model.images[0], "--model", folder, *place, "--precision", "INT8").exit_code == 0
    found = cli("evaluate", *model.given, *place, "--dataset", model.root, "--protocol", "pad", "--json").json()
    scores = {score["backend"]: score["mean_iou"] for score in found["result"]["scores"]}
    assert set(scores) == {"PyTorch", "ONNX", "IR FP32", "IR FP16", "IR INT8"}
    assert [scores["ONNX"], scores["IR FP32"]] == pytest.approx([scores["PyTorch"]] * 2, abs=0.05)
    assert cli("report", folder, *place).exit_code == 0
    assert cli("bundle", folder, "--output-dir", copy, "-o", tmp_path / "b.tar.gz").exit_code == 0
    settings = json.loads(unpacked(tmp_path / "b.tar.gz")["selftest.json"])
    assert [case["image"] for case in settings["cases"]][:2] == [
        "verification/sheet.input.npy",
        "verification/000.tif.input.npy",
    ]
    checked = cli("check", tmp_path / "b.tar.gz")
    assert checked.exit_code == 0, checked.stdout + checked.stderr
    again = cli("rebuild", "--check", folder / "manifest.json", "--checkpoint", model.checkpoint)
    assert again.exit_code == 0, again.stderr


def test_an_ir_of_16_bit_numbers_is_quantized(cli: Cli, own: Callable[[str], Own], tmp_path: Path) -> None:
    model = own("grey of 16 bits")
    assert cli("run", *model.given, "-o", tmp_path, "--input-type", "u16").exit_code == 0
    data = ("--calibration", model.images[0].parent, "--min-agreement", 0.3)
    quantized = cli("quantize", folder_of(tmp_path), "-o", tmp_path, *data)
    assert quantized.exit_code == 0, quantized.stderr
    image = openvino.Core().read_model(folder_of(tmp_path) / "INT8" / "bands.xml").input(0)
    assert image.get_element_type() == openvino.Type.u16


@pytest.mark.parametrize("name", ["grey", slow("four in a PNG")])
def test_an_ir_of_bytes_labels_as_mmsegmentation_does(
    cli: Cli, own: Callable[[str], Own], name: str, tmp_path: Path
) -> None:
    model = own(name)
    given = (*model.given, "-o", tmp_path, "--input-type", "u8", "--input-layout", "NHWC")
    done = cli("run", *given, *(word for path in model.images for word in ("--images", path)))
    assert done.exit_code == 0, done.stderr
    folder = folder_of(tmp_path)
    ir = openvino.Core().read_model(str(folder / "FP32" / "bands.xml"))
    assert ir.inputs[0].get_element_type() == openvino.Type.u8
    assert list(ir.inputs[0].shape) == [1, 48, 64, model.kind.channels]
    image = next(path for path in model.images if path.stem == "002")  # of the model's size
    assert cli("segment", image, "--model", folder, "-o", tmp_path).exit_code == 0
    (expected,) = theirs.labels_of(model.config, model.checkpoint, [image])
    with Pillow.open(folder / "segmented" / "002.labels.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)
    for command in (
        ("quantize", folder, "--calibration", model.images[0].parent, "--min-agreement", 0.3),
        ("evaluate", *model.given, "--dataset", model.root, "--protocol", "pad"),
        ("report", folder),
    ):
        done = cli(*command, "-o", tmp_path)
        assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("name", kinds())
def test_every_kind_runs_to_a_pass(cli: Cli, own: Callable[[str], Own], name: str, tmp_path: Path) -> None:
    model = own(name)
    images = [word for path in model.images for word in ("--images", path)]
    done = cli("run", *model.given, "-o", tmp_path, *images)
    assert done.exit_code == 0, done.stderr
    folder = folder_of(tmp_path)
    quantized = cli("quantize", folder, "-o", tmp_path, "--calibration", model.images[0].parent, "--min-agreement", 0.3)
    assert quantized.exit_code == 0, quantized.stderr
    assert cli("segment", *model.images, "--model", folder, "-o", tmp_path).exit_code == 0
    shapes = {read_manifest(folder)["stages"]["export-onnx"]["options"]["input_shape"][1]}
    assert shapes == {model.kind.channels}


@pytest.mark.parametrize("name", kinds("grey", *SHORT, without="arrays"))
def test_evaluate_counts_what_mmsegmentation_counts(
    cli: Cli, own: Callable[[str], Own], name: str, tmp_path: Path
) -> None:
    model = own(name)
    asked = ("evaluate", *model.given, "-o", tmp_path, "--dataset", model.root, "--backend", "PyTorch", "--json")
    found = cli(*asked).json()["result"]
    assert found["protocol"] == "mmseg"
    pixels, _ = theirs.tested(model.config, model.checkpoint)
    (score,) = found["scores"]
    assert {name: [one[name] for one in score["pixels"]] for name in pixels} == pixels


@pytest.mark.slow
def test_arrays_count_as_the_tiffs_of_the_same_values(cli: Cli, own: Callable[[str], Own], tmp_path: Path) -> None:
    model = own("four bands")
    root = shutil.copytree(model.root, tmp_path / "data")
    for path in sorted((root / "img_dir" / "val").iterdir()):
        size = picture_size(path)
        assert size is not None
        np.save(path.with_suffix(".npy"), model.kind.array(*size, int(path.stem)))
        path.unlink()
    counted = [
        cli(
            *("evaluate", *model.given, "-o", tmp_path / "out", "--backend", "PyTorch", "--json"),
            *("--dataset", one, "--protocol", protocol, "--force"),
        ).json()["result"]["scores"][0]["pixels"]
        for protocol in ("mmseg", "crop")
        for one in (model.root, root)
    ]
    assert counted[0] == counted[1] and counted[2] == counted[3]


# Both front-ends


@needs_mo
@pytest.mark.parametrize("form", [PLAIN, InputForm("u16", "NHWC")])
def test_both_front_ends_make_equal_models(four: tuple[Own, Path], tmp_path: Path, form: InputForm) -> None:
    model, out = four
    card = load_card(folder_of(out) / "model.yml")
    irs = []
    for front_end in FRONT_ENDS:
        irs.append(tmp_path / f"{front_end.name}.xml")
        convert_to_ir(folder_of(out) / "bands.onnx", card, {"FP32": irs[-1]}, front_end, form=form)
    assert_equal_from_outside(*irs)
    image = model.kind.array(48, 64, 7)
    one, other = (next(OpenVinoBackend(path, card, form=form).run([image])) for path in irs)
    assert np.array_equal(one.labels, other.labels)
    assert np.abs(one.logits - other.logits).max() <= 1e-5 * np.abs(one.logits).max()


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda one: one.name)
@pytest.mark.parametrize("fault", ["one mean", "one scale", "two swapped"])
def test_a_wrong_channel_is_found(cli: Cli, four: tuple[Own, Path], tmp_path: Path, front_end: Any, fault: str) -> None:
    model, out = four
    card = load_card(folder_of(out) / "model.yml")
    mean, scale = list(card.input.mean), list(card.input.scale)
    if fault == "one mean":
        mean[3] += 4 * scale[3] / 255
    elif fault == "one scale":
        scale[1] *= 1.01
    else:
        mean[1], mean[2], scale[1], scale[2] = mean[2], mean[1], scale[2], scale[1]
    wrong = card.model_copy(update={"input": card.input.model_copy(update={"mean": mean, "scale": scale})})
    convert_to_ir(folder_of(out) / "bands.onnx", wrong, {"FP32": tmp_path / "wrong.xml"}, front_end)
    given = ("verify", folder_of(out), "-o", out, "--checkpoint", model.checkpoint)
    done = cli(*given, "--ir", tmp_path / "wrong.xml")
    assert done.exit_code == 9
    assert "logits: sheet: logit error" in done.error


# Drawn images


BYTES = ("grey", "four in a PNG")
HELD = {
    "u8": BYTES,
    "u16": (*BYTES, "grey of 16 bits", "four bands", "three of 16 bits", "thirteen bands"),
    "f32": tuple(KINDS),
}


@pytest.mark.parametrize(("type_", "name"), [(type_, name) for type_ in ("u8", "u16") for name in KINDS])
def test_a_number_type_is_refused_where_it_does_not_hold_a_kind(type_: Any, name: str) -> None:
    card_input = input_of(KINDS[name].mean, KINDS[name].std)
    if name in HELD[type_]:
        check_type(card_input, InputForm(type_))
    else:
        with pytest.raises(OptionError):
            check_type(card_input, InputForm(type_))


@pytest.mark.parametrize(("type_", "name"), [(type_, name) for type_, names in HELD.items() for name in names])
def test_the_sheet_has_each_channel_in_its_own_range(type_: Any, name: str) -> None:
    kind, form = KINDS[name], InputForm(type_)
    card_input = input_of(kind.mean, kind.std)
    drawn = own_sheet(60, 80, card_input, form)
    assert drawn.dtype == form.dtype and drawn.shape == (60, 80, kind.channels)
    assert np.array_equal(drawn, own_sheet(60, 80, card_input, form))
    ranges = ranges_of_ir(card_input, form)
    for channel, (low, high) in enumerate(ranges):
        assert drawn[..., channel].min() >= np.floor(low) and drawn[..., channel].max() <= np.ceil(high)
    if form.type == "f32":
        shares = (drawn - [low for low, _ in ranges]) / [high - low for low, high in ranges]
        for one, other in combinations(range(kind.channels), 2):
            assert np.abs(shares[..., one] - shares[..., other]).mean() > 0.05


@pytest.mark.parametrize(
    ("mean", "scale", "form", "expected"),
    [
        ([0, 0], [1, 1], PLAIN, (0, 255)),  # nothing is normalised
        ([0], [255], PLAIN, (0, 255)),
        ([127.5], [127.5], PLAIN, (0, 255)),
        ([0], [10000], PLAIN, (0, 20000)),
        ([0], [65535], InputForm("u16"), (0, 65535)),
        ([-12.5], [4.25], PLAIN, (-21, -4)),
        ([0.5], [0.25], PLAIN, (0, 1)),
        ([100000], [10], PLAIN, (99980, 100020)),
    ],
)
def test_values_are_within_two_deviations(
    mean: list[float], scale: list[float], form: InputForm, expected: tuple[float, float]
) -> None:
    assert value_ranges(input_of(mean, scale), form)[0] == expected


@pytest.mark.parametrize(
    ("mean", "scale", "type_", "words"),
    [
        ([128, 3000], [64, 100], "u8", "channel 1 has values of 2800 to 3200"),
        ([-12.5], [4.25], "u16", "whole numbers of 0 to 65535, and the model's channel 0 has values of -21 to -4"),
        ([0.5], [0.2], "u8", "channel 0 has values of 0.1 to 0.9"),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "u8", "channel 0 has values of 0.027 to 0.943"),
        ([1200], [500], "u8", "channel 0 has values of 200 to 2200"),
        ([200], [300], "u8", "channel 0 has values of 0 to 800"),
        ([40000], [20], "u8", "channel 0 has values of 39960 to 40040"),
    ],
)
def test_a_number_type_that_does_not_hold_the_values(mean: Any, scale: Any, type_: Any, words: str) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        check_type(input_of(mean, scale), InputForm(type_))
    check_type(input_of(mean, scale), PLAIN)


@pytest.mark.parametrize(
    ("mean", "scale", "type_"),
    [([0], [255], "u8"), ([110.5], [50], "u8"), ([127.5], [127.5], "u8"), ([3, 2000], [3, 900], "u16"),
     ([30000], [20000], "u16"), ([0], [65535], "u16"), ([0, 0], [1, 1], "u8"), ([127.5] * 3, [1] * 3, "u8")],
)  # fmt: skip
def test_a_number_type_that_holds_the_values(mean: Any, scale: Any, type_: Any) -> None:
    check_type(input_of(mean, scale), InputForm(type_))


def test_values_that_the_ir_does_not_hold_do_not_wrap_around() -> None:
    for image in (np.full((2, 2, 1), 256, np.uint16), np.full((2, 2, 1), -1, np.float32)):
        with pytest.raises(ImageError, match=r"an image has values of .* and the IR takes u8, 0..255"):
            InputForm("u8").tensor([image])
    assert InputForm("u8").tensor([np.full((1, 1, 1), 255.9, np.float32)]) == 255
    assert InputForm("u16").tensor([np.full((1, 1, 1), 65535, np.uint16)]) == 65535


# The test pipeline


@pytest.mark.parametrize("name", KINDS)
def test_an_image_is_prepared_as_mmsegmentation_does(own: Callable[[str], Own], name: str, tmp_path: Path) -> None:
    from pspnet_convert.cards.own_model import own_card
    from pspnet_convert.pytorch.read_metadata import read_metadata

    model = own(name)
    card = own_card(model.config, model.checkpoint, read_metadata)
    found = check_preprocessing(card)
    if name == "arrays":  # its pipeline loads three colours, so that mmsegmentation cannot test it
        assert card.testing is None and found is None
        return
    assert found is not None and found.passed, found
    wrong = card.model_copy(
        update={"input": card.input.model_copy(update={"mean": [value * 1.01 for value in card.input.mean]})}
    )
    wrong_found = check_preprocessing(wrong)
    assert wrong_found is not None and not wrong_found.passed


@pytest.mark.parametrize(
    ("kind", "loader", "words"),
    [
        (others.FOUR, {}, "its test pipeline loads images of 3 channels, and the network takes 4"),
        (others.FOUR, {"color_type": "grayscale"}, "its test pipeline loads images of 1 channels, and the network"),
        (others.THIRTEEN, {"color_type": "unchanged"}, "its test pipeline does not load images of 13 channels"),
    ],
)
def test_a_pipeline_that_loads_other_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: Kind, loader: Any, words: str
) -> None:
    from pspnet_convert.cards.config_card import read_config
    from pspnet_convert.cards.config_testing import testing_of

    other = Kind(kind.channels, kind.mean, kind.std, kind.dtype, kind.suffix, loader)
    assert testing_of(read_config(others.write_config(tmp_path / "bands.py", other, tmp_path))) is None
    assert words in caplog.text and "evaluate has no protocol mmseg for this model" in caplog.text


def test_bytes_cut_by_the_pipeline_are_reported(
    own: Callable[[str], Own], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenCV's flag for grey pictures cuts 16 bits to 8."""
    from pspnet_convert.cards.own_model import own_card
    from pspnet_convert.pytorch.read_metadata import read_metadata

    model = own("grey")
    card = own_card(model.config, model.checkpoint, read_metadata)
    path = others.GREY_16.save(tmp_path / "a.png", 20, 30)
    caplog.clear()
    assert ModelImages.of(card).read(path).dtype == np.uint8
    assert f"{path}: has 16 bits a value and is cut to 8" in caplog.text


# What the command line says


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model__data_preprocessor__mean": [128], "model__data_preprocessor__std": [64]},
            "the config's mean has 1 value, the network takes 4 channels. Give a value for each channel",
        ),
        ({"model__data_preprocessor__std": [1, 2, 3]}, "the config's std has 3 values, the network takes 4 channels"),
        ({"model__backbone__in_channels": 1}, "the config's mean has 4 values, the network takes 1 channel"),
        ({"model__backbone__in_channels": 0}, "model.backbone.in_channels is 0, not 1 to 512"),
        ({"model__data_preprocessor__std": [1, 2, -3, 4]}, "each value must be between 1e-12 and 1e12"),
    ],
)
def test_a_config_that_does_not_fit_itself(cli: Cli, tmp_path: Path, changes: Any, words: str) -> None:
    config = others.write_config(tmp_path / "bands.py", others.FOUR, tmp_path, **changes)
    checkpoint = others.save_checkpoint(tmp_path / "weights.pth", 4)
    done = cli("export-onnx", "--config", config, "--checkpoint", checkpoint, "-o", tmp_path)
    assert done.exit_code == 3
    assert words in done.error


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["segment", "{photo}"], 13, "has 3 channels, the model takes 4"),
        (["segment", "{nan}"], 13, "has values that are not finite"),
        (["verify", "{model}", "--images", "{photo}"], 13, "chelsea.tif: has 3 channels, the model takes 4"),
        (["quantize", "{model}"], 13, "bands: takes other images than the photographs that come with the tool (4 ch"),
        (["benchmark", "{model}", "--int8"], 13, "--int8 has no images to calibrate with: bands: takes other images"),
        (["quantize", "{model}", "--calibration", "{folder}"], 13, "has 3 channels, the model takes 4"),
        (
            ["export-onnx", "{model}", "--input-shape", "1,3,48,64"],
            2,
            "--input-shape has 3 channels, the model takes 4",
        ),
        (["to-ir", "{model}", "--input-type", "u8"], 2, "--input-type u8 holds whole numbers of 0 to 255"),
        (["verify", "{model}", "--ir", "{ir}", "--input-shape", "1,1,48,64"], 2, "has 1 channels, the model takes 4"),
        (["verify", "{model}", "--ir", "{ir}"], 9, "uint16 [1, 48, 64, 4], expected input.1 float32 [1, 4, 48, 64]"),
    ],
)
def test_what_does_not_fit_the_model(
    cli: Cli, four: tuple[Own, Path], tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    model, out = four
    copy = shutil.copytree(out, tmp_path / "out")
    folder = tmp_path / "folder"
    photo = others.save(folder / "chelsea.tif", np.zeros((20, 30, 3), np.uint8))
    nan = others.save(tmp_path / "nan.tif", np.full((48, 64, 4), np.nan, np.float32))
    named = {
        "photo": photo,
        "nan": nan,
        "folder": folder,
        "model": folder_of(copy),
        "ir": folder_of(copy) / "FP32" / "bands.xml",
    }
    command, *rest = (one.format(**named) for one in arguments)
    extra = ["--model", folder_of(copy)] if command == "segment" else []
    extra += ["--checkpoint", model.checkpoint] if command in ("verify", "export-onnx", "benchmark") else []
    done = cli(command, *rest, *extra, "-o", copy)
    assert done.exit_code == code, done.stderr
    assert words in done.error


def test_the_page_and_the_json_of_a_foreign_form(cli: Cli, four: tuple[Own, Path]) -> None:
    model, out = four
    given = ("verify", folder_of(out), "-o", out, "--checkpoint", model.checkpoint, "--json")
    ir = folder_of(out) / "FP32" / "bands.xml"
    done = cli(*given, "--ir", ir, "--input-type", "u16", "--input-layout", "NHWC")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "pass"
