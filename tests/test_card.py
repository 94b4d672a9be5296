"""The top-level card's content; and a `model.yml` with a fault is refused, with the fault's name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.card_yaml import MAX_CARD_BYTES
from pspnet_convert.cards.catalog import find_card, shipped
from pspnet_convert.errors import CardError

FILE = "pspnet_r50-d8_512x512_20k_voc12aug_20200617_101958-ed5dfbd9.pth"
VOC = (
    "background,aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,diningtable,dog,horse,motorbike,person,"
    "pottedplant,sheep,sofa,train,tvmonitor"
)
TOP_LEVEL = shipped("model.yml")
ABSENT = object()


# What the top-level card says


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return find_card()


def test_the_checkpoint_is_the_published_one(card: ModelCard) -> None:
    assert (card.name, card.task_type, card.framework) == ("pspnet-pytorch", "semantic_segmentation", "pytorch")
    file = card.checkpoint
    assert file.name == FILE
    assert file.size == 196212259
    assert file.sha256 == "ed5dfbd939dd2e4f78a0c2e6726a57150f3aec95e07f2cf64aeffea68a712c5b"
    assert file.sha384 == (
        "be24b179a6b45e794a03dc153dcfa854cc9f3ee5beefad70072b47902d720d9d1d0ed6dfefb1a43412ed356e2f44fa98"
    )
    # mmsegmentation ends a file's name with the first digits of its digest.
    assert file.sha256.startswith(file.name.rpartition("-")[2].removesuffix(".pth"))


def test_the_authors_server_comes_before_the_mirror(card: ModelCard) -> None:
    assert card.checkpoint.sources == [
        f"https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r50-d8_512x512_20k_voc12aug/{FILE}",
        f"https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.1/pspnet-pytorch/{FILE}",
    ]


def test_the_config_is_one_that_mmsegmentation_ships(card: ModelCard) -> None:
    from importlib.util import find_spec

    assert card.config == "pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py"
    spec = find_spec("mmseg")
    assert spec is not None
    assert spec.origin is not None
    assert (Path(spec.origin).parent / ".mim" / "configs" / card.config).is_file()


def test_input_and_output_are_the_model_pages(card: ModelCard) -> None:
    assert card.input.model_dump() == {
        "name": "input.1",
        "shape": (1, 3, 512, 512),
        "layout": "NCHW",
        "color_order": "RGB",
        "mean": (123.675, 116.28, 103.53),
        "scale": (58.395, 57.12, 57.375),
        "converted_color_order": "BGR",
    }
    assert card.output.model_dump() == {
        "name": "segmentation_map",
        "shape": (1, 1, 512, 512),
        "layout": "NCHW",
        "values": (0, 20),
    }


def test_the_background_is_one_of_the_classes(card: ModelCard, tmp_path: Path) -> None:
    assert (card.background, card.background_number) == ("background", 0)
    path = tmp_path / "model.yml"
    before, after = TOP_LEVEL.read_text().split("\nbackground: background\n")
    path.write_text(f"{before}\nbackground: bird\n{after}")
    assert load_card(path).background_number == 3
    path.write_text(f"{before}\nbackground: wall\n{after}")
    with pytest.raises(CardError, match="background: there is no class named 'wall'"):
        load_card(path)
    path.write_text(f"{before}\n{after}")
    assert load_card(path).background_number is None


def test_the_classes_are_pascal_vocs_in_its_colours(card: ModelCard) -> None:
    assert ",".join(card.class_names) == VOC
    # VOC's colours: the class number's bits, three at a time, from each channel's highest bit down.
    for number, colour in enumerate(card.palette):
        made = [0, 0, 0]
        for bit in range(3):
            for channel in range(3):
                made[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        assert list(colour) == made


def test_figures_and_their_protocols(card: ModelCard) -> None:
    assert (card.gflops, card.mparams) == (357.1719, 46.5827)
    assert [(a.metric, a.value, a.protocol) for a in card.accuracy] == [
        ("mean_iou", 70.6, "crop"),
        ("mean_iou", 70.1, "pad"),
        ("mean_iou", 76.78, "mmseg"),
    ]
    assert all("VOC 2012 val (1449 images)" in a.dataset for a in card.accuracy)
    assert ["Open Model Zoo" in a.measured_by for a in card.accuracy] == [True, True, False]


def test_the_licence_is_there_to_read(card: ModelCard) -> None:
    assert card.license.name == "Apache-2.0"
    assert card.license.file == "APACHE-2.0-MMSegmentation-Models.txt"
    assert card.license.url == "https://raw.githubusercontent.com/open-mmlab/mmsegmentation/master/LICENSE"
    text = (shipped("licenses") / card.license.file).read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


# Faults, one by one, through `info`


@pytest.fixture
def data() -> dict[str, Any]:
    return yaml.safe_load(TOP_LEVEL.read_text(encoding="utf-8"))


@pytest.fixture
def refused(cli: Cli, tmp_path: Path) -> Callable[[Any], str]:
    """Write a card (text, bytes or data), run `info` on it, and return the error that it must give."""

    def call(content: Any) -> str:
        path = tmp_path / "model.yml"
        if not isinstance(content, (str, bytes)):
            content = yaml.safe_dump(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        result = cli("info", path)
        assert result.exit_code == 3, result.stdout + result.stderr
        assert result.stdout == ""
        assert f"{path}: " in result.error
        return result.error

    return call


def put(data: Any, place: str, value: Any) -> None:
    """Set `a.0.b` to `value`; ABSENT removes it."""
    *path, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    for part in path:
        data = data[part]
    if value is ABSENT:
        del data[last]
    else:
        data[last] = value


def test_the_card_without_a_fault_is_accepted(cli: Cli, data: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    result = cli("info", path, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.json() == find_card().model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("gflop", 1.0, "unknown key 'gflop', did you mean 'gflops'?"),
        ("zzzz", 1.0, "unknown key 'zzzz'. Compare"),
        ("input/means", [1, 2, 3], "unknown key 'input.means'"),
        ("classes", ABSENT, "classes: Field required"),
        ("files/0/sha256", ABSENT, "files.0: Value error, size and sha256 go together"),
        ("files/0/size", ABSENT, "files.0: Value error, size and sha256 go together"),
        ("files/0/digest_prefix", "01234567", "does not begin with the digest_prefix 01234567"),
        ("files/0/digest_prefix", "ED5DFBD9", "files.0.digest_prefix: String should match pattern"),
        ("config", ABSENT, "exactly one of config, network and needs_config"),
        (
            "network",
            {"type": "EncoderDecoder", "backbone": {"type": "ResNet"}, "decode_head": {"type": "PSPHead"}},
            "exactly one of config, network and needs_config",
        ),
        ("license/name", ABSENT, "license.name: Field required"),
        ("name", "../evil", "name: String should match pattern"),
        ("name", "a/b", "name: String should match pattern"),
        ("name", "..", "name: String should match pattern"),
        ("name", "a..b", "name: String should match pattern"),
        ("name", ".a", "name: String should match pattern"),
        ("name", "a.", "name: String should match pattern"),
        ("name", "", "name: String should match pattern"),
        ("name", "a" * 101, "name: String should have at most 100 characters"),
        ("name", 7, "name: Input should be a valid string"),
        ("name", "a\n", "name: String should match pattern"),
        ("task_type", "detection", "task_type: Input should be 'semantic_segmentation'"),
        ("framework", "caffe", "framework: Input should be 'pytorch'"),
        ("files", [], "files: List should have at least 1 item"),
        ("files/0/name", "/etc/passwd", "files.0.name: String should match pattern"),
        ("files/0/name", "../a.pth", "files.0.name: String should match pattern"),
        ("files/0/name", ".hidden", "files.0.name: String should match pattern"),
        ("files/0/size", 0, "files.0.size: Input should be greater than 0"),
        ("files/0/size", -1, "files.0.size: Input should be greater than 0"),
        ("files/0/size", 2**40, "files.0.size: Input should be less than"),
        ("files/0/size", "big", "files.0.size: Input should be a valid integer"),
        ("files/0/sha256", "E" * 64, "files.0.sha256: String should match pattern"),
        ("files/0/sha256", "e" * 63, "files.0.sha256: String should match pattern"),
        ("files/0/sha384", "e" * 95, "files.0.sha384: String should match pattern"),
        ("files/0/sources", [], "files.0.sources: List should have at least 1 item"),
        ("files/0/sources/0", "ftp://host/file", "'ftp://host/file' is neither an http(s) URL nor the name of a file"),
        ("files/0/sources/0", "file:///etc/passwd", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "javascript:alert(1)", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "https://host", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "https:///file", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "https://host/a file", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "https://host/file\n", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "/etc/passwd", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "../file.pth", "is neither an http(s) URL nor"),
        ("files/0/sources/0", "file.pth\n", "is neither an http(s) URL nor"),
        ("config", "../../evil.py", "config: String should match pattern"),
        ("config", "pspnet/../../../evil.py", "config: Value error, must stay inside mmsegmentation's configs"),
        ("config", "/tmp/evil.py", "config: String should match pattern"),
        ("config", "pspnet/x.json", "config: String should match pattern"),
        ("config_overrides", {"model.backbone.type": "os.system"}, "config_overrides.model.backbone.type."),
        ("config_overrides", {"model.x": ["a"]}, "config_overrides.model.x."),
        ("config_overrides", {"model.x": {"type": 1}}, "config_overrides.model.x."),
        ("config_overrides", {"model.x": float("inf")}, "config_overrides.model.x."),
        (
            "config_overrides",
            {"model.x": 10**9},
            "config_overrides: Value error, model.x: too large (numbers up to 16384",
        ),
        ("config_overrides", {"model.x": -1e300}, "model.x: too large"),
        ("config_overrides", {"model.x": [1] * 101}, "model.x: too large (numbers up to 16384, lists up to 100)"),
        ("config_overrides", {"model.x": [1, 10**4000]}, "model.x: too large"),
        ("config_overrides", {f"model.x{n}": 1 for n in range(101)}, "config_overrides: Value error, 101 are too many"),
        ("config_overrides", {"": 1}, "'' is no key of a config"),
        ("config_overrides", {"model.\x1b[2J": 1}, "'model.\\x1b[2J' is no key of a config"),
        ("config", "a" * 300 + ".py", "config: String should have at most 200 characters"),
        ("input/shape", [1, 3, 512], "input.shape.3: Field required"),
        ("input/shape", [1, 3, 512, 10**4000], "sides of 8 to 8192, is [1, 3, 512, 1000000"),
        ("input/name", "a,b", "input.name: String should match pattern"),
        ("input/name", "input[0]", "input.name: String should match pattern"),
        ("input/name", "a\nb", "input.name: String should match pattern"),
        ("output/name", "a->b", "output.name: String should match pattern"),
        ("output/name", "input.1", "input and output have the same name"),
        ("input/mean/0", -1e13, "input.mean: Value error, each value must be between -1e12 and 1e12"),
        ("input/mean/0", 1e308, "input.mean: Value error, each value must be between -1e12 and 1e12"),
        ("input/mean/0", 10**4000, "input.mean.0: Input should be a valid number"),
        ("input/scale/0", 1e-300, "input.scale: Value error, each value must be between 1e-12 and 1e12"),
        ("input/scale/0", 1e300, "input.scale: Value error, each value must be between 1e-12 and 1e12"),
        ("description", "\x1b[2J", "description: Value error, has the control character '\\x1b'"),
        ("description", "\u202egnp.exe", "description: Value error, has the control character '\\u202e'"),
        ("description", "a" * 2001, "description: String should have at most 2000 characters"),
        ("references/0", "\x07", "references.0: Value error, has the control character '\\x07'"),
        ("classes/3/name", "bi\x9brd", "classes.3.name: Value error, has the control character '\\x9b'"),
        ("classes/3/name", "a" * 101, "classes.3.name: String should have at most 100 characters"),
        ("accuracy/0/measured_by", "\r", "accuracy.0.measured_by: Value error, has the control character '\\r'"),
        ("license/url", "\x00", "license.url: Value error, has the control character '\\x00'"),
        ("license/name", "\x85", "license.name: Value error, has the control character '\\x85'"),
        ("mparams", 10**4000, "mparams: Input should be a valid number"),
        ("dataset", "a" * 300, "dataset: String should have at most 200 characters"),
        ("files/0/sources/0", "a" * 300, "is neither an http(s) URL nor the name of a file"),
        ("input/shape", [1, 3, 512, 512, 1], "input.shape: Tuple should have at most 4 items"),
        ("input/shape", [2, 3, 512, 512], "must be [1, channels, height, width] with 1 to 512 channels"),
        ("input/shape", [1, 0, 512, 512], "must be [1, channels, height, width] with 1 to 512 channels"),
        ("input/shape", [1, 4, 512, 512], "input: Value error, mean has 3 values, shape 4 channels"),
        ("input/shape", [1, 3, 7, 512], "sides of 8 to 8192, is [1, 3, 7, 512]"),
        ("input/shape", [1, 3, 512, 8193], "sides of 8 to 8192, is [1, 3, 512, 8193]"),
        ("input/name", "", "input.name: String should match pattern"),
        ("input/layout", "NHWC", "input.layout: Input should be 'NCHW'"),
        ("input/color_order", "GRB", "input.color_order: Input should be 'RGB', 'BGR' or 'as stored'"),
        ("input/converted_color_order", "RGB", "input.converted_color_order: Input should be 'BGR' or 'as stored'"),
        ("input/color_order", "as stored", "color_order is 'as stored' with 3 channels; it must be RGB or BGR"),
        ("input/converted_color_order", "as stored", "converted_color_order is 'as stored' with 3 channels"),
        ("input/mean", [1, 2], "input: Value error, mean has 2 values, shape 3 channels"),
        ("input/scale", [1], "input: Value error, scale has 1 value, shape 3 channels"),
        ("input/mean/0", "red", "input.mean.0: Input should be a valid number"),
        ("input/mean/0", float("nan"), "input.mean.0: Input should be a finite number"),
        ("input/scale/1", 0, "input.scale: Value error, each value must be between 1e-12 and 1e12"),
        ("input/scale/1", -1, "input.scale: Value error, each value must be between 1e-12 and 1e12"),
        ("output/shape", [1, 1, 512, 256], "output.shape [1, 1, 512, 256] does not fit the input's height and width"),
        ("output/shape", [1, 21, 512, 512], "output.shape [1, 21, 512, 512] does not fit"),
        ("output/values", [0, 21], "output.values [0, 21] does not fit 21 classes"),
        ("output/values", [1, 20], "output.values [1, 20] does not fit 21 classes"),
        ("classes", [{"name": "all", "color": [0, 0, 0]}], "classes: List should have at least 2 items"),
        ("classes/3/name", "dog", "two classes have the same name"),
        ("classes/3/color", [0, 0, 256], "classes.3.color: Value error, each value must be 0 to 255"),
        ("classes/3/color", [0, 0], "classes.3.color.2: Field required"),
        ("classes/3", "dog", "classes.3: Input should be a valid dictionary"),
        ("gflops", 0, "gflops: Input should be greater than 0"),
        ("gflops", float("inf"), "gflops: Input should be a finite number"),
        ("mparams", -3, "mparams: Input should be greater than 0"),
        ("accuracy/0/value", 100.5, "accuracy.0.value: Input should be less than or equal to 100"),
        ("accuracy/0/protocol", "whole", "accuracy.0.protocol: Value error, 'whole' is part of 'mmseg'"),
        ("accuracy/0/protocol", "stretch", "accuracy.0.protocol: Input should be 'crop', 'pad' or 'mmseg'"),
        ("accuracy/0/metric", "top1", "accuracy.0.metric: Input should be 'mean_iou' or 'mean_dice'"),
        ("dataset", "../voc", "dataset: String should match pattern"),
        ("dataset", "/voc", "dataset: String should match pattern"),
        ("license/file", "../../etc/passwd", "license.file: String should match pattern"),
        ("testing/pipeline/0/_scope_", "evilpkg", "testing.pipeline: Value error, the key '_scope_' is not allowed"),
        ("testing/pipeline/1/scale", {"a": [{"_scope_": "evilpkg"}]}, "the key '_scope_' is not allowed"),
        ("testing/pipeline/0/_delete_", True, "the key '_delete_' is not allowed"),
        ("testing/pipeline/0/type", "evilpkg.LoadImageFromFile", "'evilpkg.LoadImageFromFile' is not one of"),
        ("testing/pipeline/0/backend_args", {"sys_path": "evilpkg"}, "the key 'backend_args' is not allowed"),
        ("testing/pipeline/0/file_client_args", {}, "the key 'file_client_args' is not allowed"),
        ("testing/preprocessor/_scope_", "evilpkg", "testing.preprocessor: Value error, the key '_scope_' is not"),
        ("testing/pipeline/0/type", "Resize", "testing.pipeline: Value error, does not begin with LoadImageFromFile"),
        ("testing/pipeline/1", {"type": "RGB2Gray", "out_channels": "a"}, "RGB2Gray has out_channels that are no"),
        ("testing/pipeline/1", {"type": "RGB2Gray", "weights": 5}, "RGB2Gray has out_channels that are no number, or"),
        ("testing/preprocessor/pad_val", "a", "testing.preprocessor: Value error, pad_val is no number"),
        ("testing/preprocessor/test_cfg", 5, "test_cfg has no size or size_divisor of 1 to 16384 pixels"),
        ("testing/preprocessor/test_cfg", {"size": [5, "a"]}, "test_cfg has no size or size_divisor of 1 to 16384"),
        ("testing/preprocessor/test_cfg", {"size_divisor": -5}, "test_cfg has no size or size_divisor of 1 to 16384"),
        ("testing/preprocessor/type", "evilpkg.A", "'evilpkg.A' is no plain name"),
    ],
)
def test_each_fault_is_named_with_its_place(
    refused: Callable[[Any], str], data: dict[str, Any], place: str, value: object, words: str
) -> None:
    put(data, place, value)
    assert words in refused(data)


def test_a_misspelt_key_is_reported_as_unknown_and_not_as_missing(
    refused: Callable[[Any], str], data: dict[str, Any]
) -> None:
    data["input"]["colour_order"] = data["input"].pop("color_order")
    error = refused(data)
    assert "unknown key 'input.colour_order', did you mean 'color_order'? (and 1 more)" in error
    assert "Compare with the model.yml that comes with the tool." in error


def test_further_faults_are_counted(refused: Callable[[Any], str], data: dict[str, Any]) -> None:
    data.update(gflops=-1, mparams=-1, framework="caffe")
    assert "(and 2 more)" in refused(data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: a\ninput: [1, 2\nx: 3\n", "not valid YAML: line 3, column 2: "),
        ("name: a: b\n", "not valid YAML: line 1, column 8: mapping values are not allowed here"),
        ("\tname: a\n", "not valid YAML: line 1, column 1: found character '\\t'"),
        ("name: a\x00b\n", "not valid YAML: unacceptable character #x0000"),
        ("---\na: 1\n---\nb: 2\n", "not valid YAML: line 3, column 1: but found another document"),
        ("a: &x [1]\nb: *x\n", "YAML aliases (*name) are not allowed in a card"),
        ("a: !!python/object/apply:os.system [id]\n", "not valid YAML: line 1, column 4: could not determine a constr"),
        ("!!python/object:pspnet_convert.cards.card.ModelCard {}\n", "could not determine a constructor for the tag"),
        ("name: !!bool maybe\n", "not valid YAML: "),
        ('name: !!int ""\n', "not valid YAML: "),
        ("name: !!timestamp soon\n", "not valid YAML: "),
        ("name: 2024-13-45\n", "not valid YAML: month must be in 1..12"),
        ("? [a, b]\n: 1\n", "not valid YAML: line 1, column 3: found unhashable key"),
        ("name: a\nframework: b\nname: c\n", "not valid YAML: line 3, column 1: the key 'name' occurs twice"),
        ("input: {name: a, name: b}\n", "not valid YAML: line 1, column 18: the key 'name' occurs twice"),
        ("<<: {name: a}\n", "not valid YAML: line 1, column 1: merging (<<) is not allowed"),
        ('name: "\\ud800"\n', "name: Input should be a valid string, unable to parse raw data as a unicode string"),
        (b"\xff\xfen\x00a\x00", "cannot be read: 'utf-8' codec can't decode byte 0xff"),
        ("mparams: " + "9" * 5000, "not valid YAML: Exceeds the limit"),
        ("mparams: 1" + ":59" * 20_000 + ".5", "not valid YAML: int too large to convert to float"),
        ("!" * 60_000, "not valid YAML: line 1, column 1: could not determine a constructor for the tag"),
        ("a: 1\nb:\n  - " + "[" * 60_000, "line 3: nested deeper than 20 levels"),
        ("", "a card is a mapping of keys to values, this is NoneType"),
        ("- name\n", "a card is a mapping of keys to values, this is list"),
        ("pspnet\n", "a card is a mapping of keys to values, this is str"),
        ("7: x\n", "Field required"),
        (b"name: caf\xe9\n", "cannot be read: 'utf-8' codec can't decode byte 0xe9"),
        (b"\x80\x02}q\x00.", "cannot be read: 'utf-8' codec can't decode byte 0x80"),
        ("#" * (MAX_CARD_BYTES + 1), f"is too large for a card (more than {MAX_CARD_BYTES} bytes)"),
    ],
)
def test_a_file_that_is_no_card_is_refused_with_the_reason(
    refused: Callable[[Any], str], content: object, words: str
) -> None:
    assert words in refused(content)


def test_an_alias_bomb_is_refused_before_it_grows(refused: Callable[[Any], str]) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert "aliases" in refused("\n".join(["l0: &l0 [x]", *levels]))


def test_a_tag_runs_no_code(refused: Callable[[Any], str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    refused(f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{trace}]]\n")
    assert not trace.exists()


def test_a_card_of_the_largest_size_is_read(cli: Cli, tmp_path: Path) -> None:
    text = TOP_LEVEL.read_text(encoding="utf-8")
    path = tmp_path / "model.yml"
    path.write_text(text + "#" * (MAX_CARD_BYTES - len(text.encode())), encoding="utf-8")
    assert path.stat().st_size == MAX_CARD_BYTES
    assert cli("info", path).exit_code == 0


def test_a_card_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    for path in (tmp_path / "model.yml", tmp_path):
        result = cli("info", path)
        assert result.exit_code == 3
        assert f"{tmp_path / 'model.yml'}: cannot be read: [Errno 2] No such file" in result.error
        assert "Give the path of a model.yml." in result.error


def test_a_card_without_an_end(cli: Cli) -> None:
    result = cli("info", "/dev/zero")
    assert result.exit_code == 3
    assert "/dev/zero: is too large for a card" in result.error


def test_texts_may_be_in_any_language(cli: Cli, data: dict[str, Any], tmp_path: Path) -> None:
    data["description"] = "Größe, 写真\u3000と\u00a0🐈,\nin\ttwo lines"
    path = tmp_path / "model.yml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    assert cli("info", path, "--json").json()["description"] == data["description"]


def test_a_card_that_is_a_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "model.yml").mkdir()
    result = cli("info", tmp_path)
    assert result.exit_code == 3
    assert "cannot be read: [Errno 21] Is a directory" in result.error


def test_a_cards_texts_are_printed_unchanged(cli: Cli, data: dict[str, Any], tmp_path: Path) -> None:
    # Rich would take these for markup and emoji, and choke on the first.
    data["description"] = "[/red] [bold]fast[/bold] :cat:"
    path = tmp_path / "model.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    result = cli("info", path)
    assert result.exit_code == 0, result.stderr
    assert data["description"] in result.stdout


# Any content


KEYS = st.sampled_from([*ModelCard.model_fields, "shape", "sources", "color", "type", "0"]) | st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=8)
    | st.dates()
    | st.datetimes()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | SCALARS, inner, max_size=4)
)
GOOD = yaml.safe_load(TOP_LEVEL.read_text(encoding="utf-8"))


def places(data: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in `data`."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path for key, value in inner for path in [(*prefix, key), *places(value, (*prefix, key))]]


def card_or_error(folder: Path, content: bytes) -> None:
    path = folder / "model.yml"
    path.write_bytes(content)
    try:
        card = load_card(path)
    except CardError as error:
        assert str(error).startswith(f"{path}: ")
        assert len(f"{path}: ") < len(error.what) < len(f"{path}: ") + 1000
        assert error.what.isprintable()
    else:
        assert isinstance(card, ModelCard)
        assert card.folder == folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cards")


@given(data=VALUES)
def test_any_data_gives_a_card_or_a_card_error(folder: Path, data: object) -> None:
    card_or_error(folder, yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(place=st.sampled_from(places(GOOD)), value=VALUES)
def test_any_value_in_a_good_card_gives_a_card_or_a_card_error(
    folder: Path, place: tuple[Any, ...], value: object
) -> None:
    data = copy.deepcopy(GOOD)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    card_or_error(folder, yaml.safe_dump(data, sort_keys=False).encode("utf-8", "surrogatepass"))


YAMLISH = st.text("!&*?:-[]{},|>%@`'\"\n\t #~=<0x_.ebintfloas/", max_size=60)
TAGGED = st.builds(
    "name: !!{} {}".format,
    st.sampled_from(
        [
            "null",
            "bool",
            "int",
            "float",
            "binary",
            "timestamp",
            "omap",
            "pairs",
            "set",
            "str",
            "seq",
            "map",
            "python/none",
            "value",
            "merge",
        ]
    ),
    st.text(max_size=8).map(repr) | st.text("0123456789-:+.xXbeEtTzZ_[]{} ", max_size=12),
)


@given(content=st.binary(max_size=60) | YAMLISH.map(str.encode) | TAGGED.map(str.encode))
def test_any_bytes_give_a_card_or_a_card_error(folder: Path, content: bytes) -> None:
    card_or_error(folder, content)
