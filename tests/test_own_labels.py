"""The classes of a user's own model: --classes and --palette, the checkpoint, the config; and their order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from conftest import Cli
from test_own_model import OF_TEST, OLD, changed, weights, write

from pspnet_convert.cards.card import load_card
from pspnet_convert.cards.own_labels import voc_palette
from pspnet_convert.label_options import ClassNames, Palette

__all__ = ["weights", "write"]  # fixtures
FIVE = ("sky", "wall", "tree", "car", "sea")
COLOURS = [(1, 2, 3), (255, 0, 0), (0, 0, 0), (4, 5, 6), (16, 32, 48)]
Card = Callable[..., Any]


@pytest.fixture
def card(cli: Cli, weights: Path, write: Callable[..., Path], tmp_path: Path) -> Card:
    """The card that export-onnx writes for a config and options; or its failed result."""

    def call(text: str, *options: object) -> Any:
        out = tmp_path / "out"
        done = cli("export-onnx", "--config", write(text), "--checkpoint", weights, "-o", out, *options)
        return load_card(out / "public" / "my-config" / "model.yml") if done.exit_code == 0 else done

    return call


# --classes and --palette


def test_classes_and_palette_override_the_checkpoints(card: Card, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("sky\n\nwall\ntree \ncar\nsea\n")
    (tmp_path / "colours.txt").write_text("1,2,3\n#ff0000\n0 0 0\n4, 5, 6\n#102030\n")
    of_files = card(OLD, "--classes", tmp_path / "names.txt", "--palette", tmp_path / "colours.txt")
    assert (tuple(of_files.class_names), of_files.palette) == (FIVE, COLOURS)
    inline = card(OLD, "--classes", "sky, wall,tree,car,sea")
    assert tuple(inline.class_names) == FIVE


def test_another_number_of_classes_in_the_checkpoint_is_an_error_that_says_how_to_go_on(
    card: Card, weights: Path
) -> None:
    changed(weights, CLASSES=["a", "b"], PALETTE=[[1, 1, 1]] * 2)
    refused = card(OLD)
    assert refused.exit_code == 6
    assert "was trained for 2 classes, the config has 5. Give the checkpoint that was trained" in refused.error
    assert "Name the 5 classes with --classes A,B,..." in refused.error
    found = card(OLD, "--classes", ",".join(FIVE))
    assert (tuple(found.class_names), found.palette) == (FIVE, voc_palette(5))


@pytest.fixture
def binary(weights: Path) -> str:
    """A config whose head has one class, and its checkpoint, which does not name it."""
    content = torch.load(weights, weights_only=True)
    state = content["state_dict"]
    for name in ("decode_head.conv_seg.weight", "decode_head.conv_seg.bias"):
        state[name] = state[name][:1].clone()
    torch.save({"state_dict": state}, weights)
    return OLD.replace("num_classes=5", "num_classes=1")


@pytest.mark.parametrize(
    ("names", "colours", "found"),
    [
        ("vessel", ["1,2,3"], ["background", "vessel"]),
        ("vessel", ["0,0,0", "1,2,3"], ["background", "vessel"]),
        ("rest,vessel", ["1,2,3"], ["rest", "vessel"]),
        (None, ["1,2,3"], ["class 0", "class 1"]),
    ],
)
def test_one_name_or_colour_for_one_class_leaves_the_rest_to_the_background(
    card: Card, binary: str, tmp_path: Path, names: str | None, colours: list[str], found: list[str]
) -> None:
    path = tmp_path / "colours.txt"
    path.write_text("\n".join(colours))
    made = card(binary, *(("--classes", names) if names else ()), "--palette", path)
    assert made.class_names == found
    assert made.palette == [(0, 0, 0), (1, 2, 3)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--classes", "a,b,c"), "--classes names 3 classes, the network has 2"),
        (("--classes", "a", "--palette", "{}"), "--palette has 3 colours, the network has 2 classes"),
        (("--classes", "background"), "--classes: has two classes named 'background'"),
    ],
)
def test_another_number_for_one_class_is_refused_with_the_number_that_was_given(
    card: Card, binary: str, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "palette.txt"
    path.write_text("1,2,3\n4,5,6\n7,8,9")
    refused = card(binary, *(option.format(path) for option in options))
    assert refused.exit_code == 2, refused.stderr
    assert words in refused.error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--classes", "a"), "--classes names 1 class, the network has 5."),
        (("--classes", "a,b"), "--classes names 2 classes, the network has 5. Name the 5 classes with --classes A,B"),
        (("--palette", "{}"), "--palette has 1 colour, the network has 5 classes"),
    ],
)
def test_another_number_than_the_networks_is_refused(
    card: Card, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "palette.txt"
    path.write_text("1,2,3")
    refused = card(OLD, *(option.format(path) for option in options))
    assert refused.exit_code == 2
    assert words in refused.error


def test_the_stages_after_it_take_the_same_card(
    cli: Cli, weights: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    own = ("--config", write(OLD), "--checkpoint", weights, "-o", tmp_path, "--name", "mine")
    labels = ("--classes", ",".join(FIVE))
    assert cli("export-onnx", *own, *labels).exit_code == 0
    assert cli("to-ir", *own, *labels).exit_code == 0
    assert (
        "export-onnx: unchanged"
        in cli("export-onnx", tmp_path / "public" / "mine", "--checkpoint", weights, *own[4:6]).stderr
    )


# The config's


METAINFO = "train_dataloader = dict(dataset=dict(type='BaseSegDataset', metainfo=dict(classes={}, palette={})))\n"


def test_the_configs_names_are_used_where_the_checkpoint_has_none(card: Card, weights: Path) -> None:
    text = OLD + METAINFO.format(FIVE, COLOURS)
    assert card(text).class_names != list(FIVE)  # the checkpoint has names
    changed(weights, CLASSES=None, PALETTE=None)
    found = card(text)
    assert (tuple(found.class_names), found.palette) == (FIVE, COLOURS)
    assert tuple(card(f"{OLD}{OF_TEST}").class_names) == FIVE  # of 0.x
    trained = OF_TEST.replace("test=", "train=").replace("type='ADE20KDataset'", "type='CustomDataset'")
    assert tuple(card(OLD + trained).class_names) == FIVE


@pytest.mark.parametrize(
    ("classes", "words"), [(("a", "b"), "metainfo names 2 classes, the network has 5"), ("names.txt", None)]
)
def test_names_of_the_config_that_do_not_fit(card: Card, weights: Path, classes: Any, words: str | None) -> None:
    changed(weights, CLASSES=None, PALETTE=None)
    found = card(OLD + METAINFO.format(repr(classes), None))
    if words is None:  # the name of a file
        assert found.class_names[0] == "class 0"
    else:
        assert found.exit_code == 3
        assert words in found.error and "--classes" in found.error


@pytest.mark.parametrize(
    ("classes", "palette", "words"),
    [
        ("aabcd", None, "config: metainfo: has two classes named 'a'"),
        ((*"abcd", "e" * 101), None, "config: metainfo: a class's name is 'eee"),
        ("abcde", [[0, 0, 256]] * 5, "config: metainfo: a class's color is (0, 0, 256)"),
    ],
)
def test_unusable_classes_of_the_config_are_an_error_of_the_config(
    card: Card, weights: Path, classes: Any, palette: Any, words: str
) -> None:
    changed(weights, CLASSES=None, PALETTE=None)
    refused = card(OLD + METAINFO.format(repr(tuple(classes)), palette))
    assert refused.exit_code == 3, refused.stderr
    assert words in refused.error and "--classes" in refused.error


# The options' own forms


@pytest.mark.parametrize(
    ("value", "names"),
    [("a,b", ("a", "b")), (" a , b ", ("a", "b")), (["a", "b,c"], ("a", "b,c")), (("a",), ("a",)), ("a b", ("a b",))],
)
def test_names(value: Any, names: tuple[str, ...]) -> None:
    assert ClassNames().convert(value, None, None) == names


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("names.txt", "'names.txt' is neither a file nor names with commas between them"),
        ("./a", "'./a' is neither a file nor"),
        ("", "'' is neither a file nor"),
        ("a,,b", "'' is no name of a class"),
        ("a,b,a", "the name 'a' occurs twice"),
        ("a,\x1b[2J", "is no name of a class"),
        ("a," + "b" * 101, "is no name of a class"),
        ([], "0 names are not 1 to 255"),
        ([7], "'7' is no name of a class"),
        (7, "'7' is neither a file nor"),
    ],
)
def test_what_is_no_names(value: Any, words: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        ClassNames().convert(value, None, None)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        "1,2,3\n255,0,0",
        "#010203\r\n#FF0000\r\n",
        "\ufeff1 2 3\n\n255\t0\t0\n",
        "[[1, 2, 3], [255, 0, 0]]",
        '[\n"#010203",\n"255,0,0"\n]',
    ],
)
def test_palettes(tmp_path: Path, content: str) -> None:
    path = tmp_path / "palette"
    path.write_text(content, encoding="utf-8", newline="")
    assert Palette().convert(str(path), None, None) == ((1, 2, 3), (255, 0, 0))
    assert Palette().convert(path, None, None) == ((1, 2, 3), (255, 0, 0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 colours are not 1 to 255"),
        (b"1,2", "'1,2' is no colour: write r,g,b (0 to 255) or #rrggbb"),
        (b"1,2,256", "'1,2,256' is no colour"),
        (b"#12345", "'#12345' is no colour"),
        (b"[[1, 2, 3.5]]", "is no colour"),
        (b"[[1, 2, true]]", "is no colour"),
        (b"[1, 2", "is no JSON list"),
        (b"[" * 100_000, "is no JSON list"),
        (b"\xff\xfe", "cannot be read as text"),
        (b"1,2,3\n" * 256, "256 colours are not 1 to 255"),
        (b"1" * (2**20 + 1), "is larger than"),
    ],
    ids=range(11),
)
def test_what_is_no_palette(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "palette"
    path.write_bytes(content)
    with pytest.raises(click.BadParameter) as caught:
        Palette().convert(str(path), None, None)
    assert words in caught.value.message


def test_the_api_takes_lists(weights: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    import pspnet_convert as pc

    names = {"classes": list(FIVE), "palette": [list(colour) for colour in COLOURS], "name": "mine"}
    pc.export_onnx(config=write(OLD), checkpoint=weights, output_dir=tmp_path, **names)
    card = load_card(tmp_path / "public" / "mine" / "model.yml")
    assert (tuple(card.class_names), card.palette) == (FIVE, COLOURS)
    assert json.dumps(card.palette) == json.dumps(COLOURS)
