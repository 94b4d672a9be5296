"""What the numbers and colours of annotations mean, against mmsegmentation's LoadAnnotations, and what is wrong."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_cards import card_with, save
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.annotations import IGNORED, Annotations
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.annotations import check_first, read_annotation
from pspnet_convert.commands.evaluate.dataset import DataSet, check_size
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.meaning import VOID_COLOUR, Meaning, meaning_of
from pspnet_convert.commands.evaluate.miou import NO_CLASS
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.errors import CardError, DatasetError, OptionError
from pspnet_convert.mmcv_ops import provide_mmcv_ops

CITYSCAPES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)


@pytest.fixture(scope="module")
def shared_card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return card_with(tmp_path_factory.mktemp("card"))


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return card_with(tmp_path / "card")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


def data_of(*paths: Path) -> DataSet:
    return DataSet("data", "images", None, [Entry(path.stem, path, path) for path in paths])


def meaning(card: ModelCard, path: Path = Path("a.png"), **options: Any) -> Meaning:
    return meaning_of(EvaluateOptions(**options), card, data_of(path))


def numbers(path: Path, card: ModelCard, **options: Any) -> list[int]:
    """What the pixels of an annotation are, row by row."""
    return [int(number) for number in read_annotation(path, meaning(card, path, **options)).numbers.ravel()]


def error_of(path: Path, card: ModelCard, **options: Any) -> DatasetError:
    with pytest.raises(DatasetError) as error:
        read_annotation(path, meaning(card, path, **options))
    assert error.value.exit_code == 15
    assert str(path) in error.value.what
    return error.value


# As mmsegmentation reads it


def theirs(path: Path, zero: bool, label_map: dict[int, int] | None) -> NDArray[np.uint8]:
    provide_mmcv_ops()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mmseg.datasets.transforms import LoadAnnotations

        loaded = LoadAnnotations()(
            {"seg_map_path": str(path), "reduce_zero_label": zero, "label_map": label_map, "seg_fields": []}
        )
    return np.asarray(loaded["gt_seg_map"])


def as_counted(numbers: NDArray[np.uint8], classes: int, ignore: int) -> NDArray[np.uint8]:
    """mmsegmentation's numbers: IoUMetric leaves out `ignore`; any other that is no class has no histogram's bin."""
    return np.where(numbers == ignore, IGNORED, np.where(numbers < classes, numbers, NO_CLASS)).astype(np.uint8)


@given(
    values=st.lists(st.integers(0, 255), min_size=6, max_size=6),
    mode=st.sampled_from(["P", "L", "1", "I;16", "I"]),
    zero=st.booleans(),
    label_map=st.none() | st.dictionaries(st.integers(0, 255), st.integers(0, 6) | st.just(255), max_size=6),
    ignore=st.sampled_from([255, 0, 3, 200]),
    orientation=st.sampled_from([None, 3, 6]),
    beyond=st.booleans(),
)
def test_an_index_is_read_as_mmsegmentation_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    shared_card: ModelCard,
    values: list[int],
    mode: str,
    zero: bool,
    label_map: dict[int, int] | None,
    ignore: int,
    orientation: int | None,
    beyond: bool,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    notes = Annotations(reduce_zero_label=zero, ignore_index=ignore, label_map=label_map or None)
    card = shared_card.model_copy(update={"annotations": notes})
    kinds: dict[str, Any] = {"1": bool, "I;16": np.uint16, "I": np.int32}
    array = np.array(values).reshape(2, 3)
    if beyond and mode.startswith("I"):
        array = array + 256 * (np.arange(6).reshape(2, 3) % 2)
    picture = Pillow.fromarray(array.astype(kinds.get(mode, np.uint8)))
    if mode == "P":
        picture.putpalette([0, 0, 0] * 256)
    exif = Pillow.Exif()
    if orientation:
        exif[0x0112] = orientation
    path = folder / ("a.tif" if mode == "I" else "a.png")
    picture.save(path, **({} if mode == "I" else {"exif": exif}))
    assert Pillow.open(path).mode == mode
    found = read_annotation(path, meaning(card, path, ignore_unknown=True))
    expected = theirs(path, zero, label_map)
    assert np.array_equal(found.numbers, as_counted(expected, 5, ignore))
    is_known = (expected < 5) | (expected == ignore) | (expected == 255)
    if not (beyond and mode.startswith("I")):
        assert found.unknown == np.count_nonzero(~is_known)
        if is_known.all():
            assert np.array_equal(read_annotation(path, meaning(card, path)).numbers, found.numbers)


def test_255_that_is_not_ignored_is_no_class_and_no_error(tmp_path: Path, path: Path) -> None:
    card = card_with(tmp_path / "card", ignore_index=0)
    save(path, np.uint8([[0, 1, 255]]))
    assert numbers(path, card) == [IGNORED, 1, NO_CLASS]
    words = meaning(card).describe()
    assert "; 0 ignored; 255: no class, only what is predicted there counts; no value for class0" in words


# Options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 5, IGNORED]),
        ({"zero_label": "ignored"}, [IGNORED, 0, 4, IGNORED]),
        ({"ignore_index": 1}, [0, IGNORED, 5, NO_CLASS]),
        ({"zero_label": "ignored", "ignore_index": 4}, [NO_CLASS, 0, IGNORED, NO_CLASS]),
    ],
)
def test_options_override_the_card(tmp_path: Path, path: Path, options: dict[str, Any], expected: list[int]) -> None:
    save(path, np.uint8([[0, 1, 5, 255]]))
    assert numbers(path, card_with(tmp_path / "six", classes=6), **options) == expected
    reduced = card_with(tmp_path / "reduced", classes=6, reduce_zero_label=True)
    assert numbers(path, reduced, **{"zero_label": "class", **options}) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.yml", "0: ignored\n7: class0\n8: 3\n9: 255\n"),
        ("map.json", '{"0": "ignored",\n\t"7": "class0", "8": 3, "9": 255}'),
    ],
)
def test_a_label_map(tmp_path: Path, path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    card = card_with(tmp_path / "card", reduce_zero_label=True, label_map={0: 4})
    save(path, np.uint8([[0, 7, 8, 9, 255]]))
    assert numbers(path, card, label_map=tmp_path / name) == [IGNORED, 0, 3, IGNORED, IGNORED]
    save(path, np.uint8([[0, 1]]))
    error = error_of(path, card, label_map=tmp_path / name)
    assert error.what.endswith(f"has the value 1: neither a class nor ignored. {tmp_path / name} does not list it")
    words = meaning(card, label_map=tmp_path / name).describe()
    assert words == "labels by index: 7 class0, 8 class3; 0, 9, 255 ignored; no value for class1, class2, class4"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no mapping from values to classes"),
        ("- 1\n", "is no mapping from values to classes"),
        ("{1: 2, 1: 3}", "the key '1' occurs twice"),
        ("{1: 2, '01': 3}", "has the value 1 twice"),
        ("{1: 5}", "value 1: 5 is no class of the card, from 0 to 4 or by name"),
        ("{1: -1}", "value 1: -1 is no class of the card"),
        ("{1: road}", "value 1: 'road' is no class of the card"),
        ("{1: yes}", "value 1: True is no class of the card, from 0 to 4 or by name (quote a name that YAML reads as"),
        ("{1: 2.0}", "value 1: 2.0 is no class"),
        ("{1: [2]}", "value 1: [2] is no class"),
        ("{yes: 2}", "True is no value of an annotation (0 to 255)"),
        ("{256: 2}", "256 is no value of an annotation (0 to 255)"),
        ("{road: 2}", "'road' is no value of an annotation (0 to 255)"),
        ("{1: ", "not valid YAML"),
    ],
)
def test_a_bad_label_map(tmp_path: Path, card: ModelCard, text: str, words: str) -> None:
    path = tmp_path / "map.yml"
    path.write_text(text)
    with pytest.raises(OptionError) as error:
        meaning(card, label_map=path)
    assert str(path) in error.value.what
    assert words in error.value.what


def test_a_label_map_that_cannot_be_read(tmp_path: Path, card: ModelCard) -> None:
    for name in ("gone.yml", "gone.json"):
        with pytest.raises(OptionError, match=f"{name}: cannot be read"):
            meaning(card, label_map=tmp_path / name)
    (tmp_path / "twice.json").write_text('{"1": 1, "1": 2}')
    with pytest.raises(OptionError, match="a key occurs twice"):
        meaning(card, label_map=tmp_path / "twice.json")


def test_options_that_do_not_go_together(tmp_path: Path, card: ModelCard) -> None:
    (tmp_path / "map.yml").write_text("{0: 1}")
    with pytest.raises(OptionError, match="--zero-label does not go with --label-map"):
        meaning(card, label_map=tmp_path / "map.yml", zero_label="class")
    with pytest.raises(OptionError, match="--label-map does not go with --labels colour"):
        meaning(card, label_map=tmp_path / "map.yml", labels="colour")
    with pytest.raises(OptionError, match="--zero-label does not go with --labels colour"):
        meaning(card, zero_label="class", labels="colour")


def test_more_classes_than_a_byte_holds(tmp_path: Path, path: Path) -> None:
    with pytest.raises(CardError, match="has 255 classes; no more than 254 can be evaluated"):
        meaning(card_with(tmp_path / "many", classes=255))
    save(path, np.uint8([[253, 255]]))
    assert numbers(path, card_with(tmp_path / "less", classes=254)) == [253, IGNORED]


# Colours


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_rgb_file_is_read_by_colour(card: ModelCard, path: Path, mode: str) -> None:
    save(path, np.uint8([[card.palette[2], card.palette[0], VOID_COLOUR]]), mode)
    assert numbers(path, card) == [2, 0, IGNORED]


def test_colours_need_no_reduced_zero_label(tmp_path: Path, path: Path) -> None:
    card = card_with(tmp_path / "card", reduce_zero_label=True, label_map={0: 3}, ignore_index=1)
    save(path, np.uint8([card.palette[:3]]))
    assert numbers(path, card) == [0, IGNORED, 2]
    words = meaning(card).describe()
    assert "RGB files by the card's colours, #e0e0c0 and class1 ignored; a colour is its class, without reduce" in words


@given(st.permutations(range(6)))
def test_a_palette_is_read_by_index_or_if_asked_by_colour(
    tmp_path_factory: pytest.TempPathFactory, shared_card: ModelCard, order: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "palette.png"
    picture = Pillow.fromarray(np.uint8([order]))
    palette = np.zeros((6, 3), np.uint8)
    palette[order] = [*shared_card.palette, VOID_COLOUR]
    picture.putpalette(palette.tobytes())
    picture.save(path)
    assert numbers(path, shared_card, labels="colour") == [0, 1, 2, 3, 4, IGNORED]
    assert numbers(path, shared_card, ignore_index=5) == [IGNORED if one == 5 else one for one in order]


def test_grey_and_black_and_white_have_colours_too(tmp_path: Path, path: Path) -> None:
    card = card_with(tmp_path / "card", classes=2, palette=[[0, 0, 0], [255, 255, 255]])
    save(path, np.uint8([[0, 255]]))
    assert numbers(path, card, labels="colour") == [0, 1]
    save(path, np.array([[True, False]]))
    assert numbers(path, card, labels="colour") == [1, 0]
    assert numbers(path, card) == [1, 0]
    save(path, np.uint16([[0, 255]]))
    assert "has 16 bits, which hold no colours" in error_of(path, card, labels="colour").what


def test_an_rgb_file_of_indices(card: ModelCard, path: Path, tmp_path: Path) -> None:
    save(path, np.repeat(np.uint8([[[0], [3], [255]]]), 3, axis=2))
    assert numbers(path, card, labels="index") == [0, 3, IGNORED]
    (tmp_path / "map.yml").write_text("{0: 1, 3: 4}")
    assert numbers(path, card, label_map=tmp_path / "map.yml") == [1, 4, IGNORED]
    save(path, np.uint8([[card.palette[1]]]))
    assert "has colours, where --labels index needs indices" in error_of(path, card, labels="index").what
    assert "where --label-map needs indices" in error_of(path, card, label_map=tmp_path / "map.yml").what


def test_a_colour_of_two_classes_is_refused(tmp_path: Path, path: Path) -> None:
    """As in mmsegmentation's PascalContextDataset59."""
    card = card_with(tmp_path / "card", palette=[[1, 1, 1], [2, 2, 2], [3, 3, 3], [2, 2, 2], [9, 9, 9]])
    save(path, np.uint8([[[1, 1, 1], [9, 9, 9]]]))
    assert numbers(path, card) == [0, 4]
    save(path, np.uint8([[[1, 1, 1], [2, 2, 2]]]))
    assert "The card has (2, 2, 2) for class1 and class3" in error_of(path, card).what
    assert numbers(path, card, ignore_unknown=True) == [0, NO_CLASS]


def test_vocs_outline_may_be_a_class(tmp_path: Path, path: Path) -> None:
    card = card_with(tmp_path / "card", classes=2, palette=[[0, 0, 0], VOID_COLOUR])
    save(path, np.uint8([[VOID_COLOUR, [0, 0, 0]]]))
    assert numbers(path, card) == [1, 0]


# Cityscapes' label ids


def test_cityscapes_label_ids_are_mapped_by_their_files_names(tmp_path: Path) -> None:
    card = card_with(
        tmp_path / "card",
        CITYSCAPES,
        dataset="CityscapesDataset",
        image_suffix="_leftImg8bit.png",
        annotation_suffix="_gtFine_labelTrainIds.png",
    )
    path = save(tmp_path / "a_gtFine_labelIds.png", np.uint8([[*range(34), 255]]))
    expected = [IGNORED] * 35
    # cityscapesscripts/helpers/labels.py
    for value, number in [(7, 0), (8, 1), (11, 2), (12, 3), (13, 4), (17, 5), (19, 6), (20, 7), (21, 8), (22, 9)]:
        expected[value] = number
    for value, number in [(23, 10), (24, 11), (25, 12), (26, 13), (27, 14), (28, 15), (31, 16), (32, 17), (33, 18)]:
        expected[value] = number
    assert numbers(path, card) == expected
    words = meaning(card, path).describe()
    assert words.startswith("labels Cityscapes' label ids (mapped to train ids): 7 road, 8 sidewalk, 11 building, 12 ")
    assert meaning(card, path).as_record() != meaning(card).as_record()

    own = card_with(tmp_path / "own", CITYSCAPES)
    assert numbers(path, own) == expected
    other = card_with(tmp_path / "other", 19)
    with pytest.raises(DatasetError, match="holds Cityscapes' label ids by its name, and the card's classes are not"):
        meaning(other, path)
    (tmp_path / "map.yml").write_text(f"{{{', '.join(f'{value}: {value % 19}' for value in range(34))}}}")
    assert numbers(path, other, label_map=tmp_path / "map.yml")[:3] == [0, 1, 2]
    raw = card_with(tmp_path / "raw", 34, annotation_suffix="_gtFine_labelIds.png")
    assert numbers(path, raw)[:3] == [0, 1, 2]
    with pytest.raises(DatasetError, match="holds label ids, but others of the data set do not"):
        meaning_of(EvaluateOptions(), card, data_of(path, tmp_path / "b_gtFine_labelTrainIds.png"))


# What is wrong


def test_label_ids_instead_of_train_ids(tmp_path: Path, path: Path) -> None:
    card = card_with(tmp_path / "card", CITYSCAPES, annotation_suffix="_gtFine_labelTrainIds.png")
    save(path, np.uint8([[0, 7, 11, 23, 26]]))
    error = error_of(path, card)
    assert (
        "has the values 23, 26: neither a class nor ignored. These look like label ids instead of train ids"
        in error.what
    )
    assert "_gtFine_labelIds.png" in str(error.advice)
    assert "--label-map" in str(error.advice)


def test_classes_counted_from_one(card: ModelCard, path: Path) -> None:
    save(path, np.uint8([[0, 1, 2, 5, 255]]))
    error = error_of(path, card)
    assert (
        "has the value 5: neither a class nor ignored. It looks as if the 5 classes were counted from 1" in error.what
    )
    assert error.advice == "If so, say --zero-label ignored. --ignore-unknown goes on and counts such pixels."


def test_another_data_sets_values(card: ModelCard, path: Path) -> None:
    save(path, np.uint8([range(150)]))
    error = error_of(path, card)
    assert "has the values 5, 6, 7, 8, 9 and 140 more: neither" in error.what
    assert "The card's classes are 0 to 4: this looks like another data set" in error.what


def test_one_value_out_of_range(tmp_path: Path, card: ModelCard, path: Path) -> None:
    save(path, np.uint8([[0, 1, 77]]))
    error = error_of(path, card)
    assert error.what.endswith("has the value 77: neither a class nor ignored. The card's classes are 0 to 4")
    assert "--ignore-index" in str(error.advice)
    reduced = card_with(tmp_path / "reduced", reduce_zero_label=True)
    assert error_of(path, reduced).what.endswith("The card's classes are 1 to 5")


@pytest.mark.parametrize("value", [1, 128, 254])
def test_a_mask_of_two_values(tmp_path: Path, path: Path, value: int) -> None:
    card = card_with(tmp_path / "card", classes=2)
    save(path, np.uint8([[0, value]]))
    if value == 1:
        assert numbers(path, card) == [0, 1]
        return
    error = error_of(path, card)
    assert f"It looks like a mask of 0 and {value}" in error.what
    assert f"{{0: 0, {value}: 1}}" in str(error.advice)


@pytest.mark.parametrize("values", [np.uint16([[0, 1000]]), np.int32([[0, 65535]])])
def test_sixteen_bits(card: ModelCard, tmp_path: Path, values: NDArray[Any]) -> None:
    path = save(tmp_path / "a.tif", values)
    assert "It has 16 bits, as files of instances have" in error_of(path, card).what
    truth = read_annotation(path, meaning(card, path, ignore_unknown=True))
    assert truth.unknown == 1
    save(path, np.where(values, 4, 0).astype(values.dtype))
    assert numbers(path, card) == [0, 4]


def test_rgb_that_holds_indices(card: ModelCard, path: Path) -> None:
    save(path, np.repeat(np.uint8([[[0], [3]]]), 3, axis=2))
    error = error_of(path, card)
    assert "has the colours (0, 0, 0), (3, 3, 3): neither" in error.what
    assert "It looks like an index, saved in RGB" in error.what
    assert "--labels index" in str(error.advice)
    save(path, np.uint8([[[0, 0, 0], [3, 0, 0]]]))
    assert "It looks like an index, in one channel of RGB" in error_of(path, card).what
    save(path, np.repeat(np.uint8([[[0], [255]]]), 3, axis=2))
    assert "It looks like a mask of 0 and 255, saved in RGB" in error_of(path, card).what


def test_another_data_sets_colours(card: ModelCard, path: Path) -> None:
    save(path, np.uint8([[[90, 80, 70], [60, 50, 40]]]))
    error = error_of(path, card)
    assert "none of its colours is in the card's palette: (60, 50, 40), (90, 80, 70)" in error.what
    assert "another data set" in str(error.advice)
    save(path, np.uint8([[[90, 80, 70], card.palette[1]]]))
    assert error_of(path, card).what.endswith("has the colour (90, 80, 70): neither a class nor ignored")
    assert numbers(path, card, ignore_unknown=True) == [NO_CLASS, 1]
    assert read_annotation(path, meaning(card, path, ignore_unknown=True)).unknown == 1


def test_a_palette_that_is_not_the_cards(card: ModelCard, path: Path) -> None:
    save(path, np.uint8([[0, 1]]), "P")
    error = error_of(path, card, labels="colour")
    assert "Leave out --labels colour" in str(error.advice)


def test_a_jpeg_is_refused_though_its_values_be_classes(card: ModelCard, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 3, (16, 16), dtype=np.uint8))
    assert "is a JPEG, which changes values" in error_of(path, card).what
    assert "is a JPEG" in error_of(path.rename(tmp_path / "b.png"), card).what


def test_a_jpeg_is_read_where_the_cards_annotations_are_jpegs(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.full((8, 8), 3, np.uint8))
    assert set(numbers(path, card_with(tmp_path / "card", annotation_suffix=".jpg"))) == {3}


def test_blended_colours(card: ModelCard, path: Path) -> None:
    ramp = np.uint8([[[number, 3 * number, 100] for number in range(80)]])
    ramp[0, 0] = card.palette[0]
    save(path, ramp)
    assert "They look blended, as by smooth resizing" in error_of(path, card).what


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"no picture", "is not an image"), (None, "cannot be read as an image")],
)
def test_a_damaged_annotation(card: ModelCard, path: Path, content: bytes | None, words: str) -> None:
    save(path, np.random.default_rng(0).integers(0, 5, (40, 40), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    assert words in error_of(path, card).what


@pytest.mark.parametrize("mode", ["LA", "F", "CMYK"])
def test_a_mode_that_no_annotation_has(card: ModelCard, tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / ("a.png" if mode == "LA" else "a.tif"), np.uint8([[0, 1]]), mode)
    assert f"has mode {mode}, which no annotation has" in error_of(path, card).what


def test_unknown_values_that_are_gone_over_are_counted(card: ModelCard, path: Path) -> None:
    save(path, np.uint8([[0, 5, 77, 255]]))
    truth = read_annotation(path, meaning(card, path, ignore_unknown=True))
    assert (truth.numbers.tolist(), truth.unknown) == ([[0, NO_CLASS, NO_CLASS, IGNORED]], 2)


def test_another_size(card: ModelCard, path: Path) -> None:
    save(path, np.zeros((30, 20), np.uint8))
    truth = read_annotation(path, meaning(card))
    check_size(Entry("a", path, path), truth, (30, 20))
    with pytest.raises(DatasetError, match=r"a\.png: is 20x30, but its image is 44x30 \(rotated as its EXIF says\)"):
        check_size(Entry("a", path, path), truth, (30, 44))


# 0 and 255 alone


def entries(folder: Path, *values: list[int]) -> list[Entry]:
    paths = [save(folder / f"{number}.png", np.uint8([one])) for number, one in enumerate(values)]
    return [Entry(path.stem, path, path) for path in paths]


def test_masks_of_0_and_255_are_not_guessed(tmp_path: Path, card: ModelCard) -> None:
    masks = [Entry("gone", tmp_path / "gone.png", tmp_path / "gone.png"), *entries(tmp_path, [0, 0], [0, 255])]
    with pytest.raises(DatasetError, match=r"0\.png: looks like a mask of 0 and 255") as error:
        check_first(masks, meaning(card))
    assert "{0: 0, 255: 1}" in str(error.value.advice)
    assert "--ignore-index 255" in str(error.value.advice)
    (tmp_path / "map.yml").write_text("{0: 0, 255: 1}")
    check_first(masks, meaning(card, label_map=tmp_path / "map.yml"))
    assert numbers(masks[2].annotation, card, label_map=tmp_path / "map.yml") == [0, 1]
    check_first(masks, meaning(card, ignore_index=255))
    check_first(masks, meaning(card, labels="colour"))


@pytest.mark.parametrize("values", [[[0, 255], [0, 1]], [[0], [0]], [[255]], [[1]]])
def test_other_files_than_masks_pass(tmp_path: Path, card: ModelCard, values: list[list[int]]) -> None:
    check_first(entries(tmp_path, *values), meaning(card))


@pytest.mark.parametrize(
    ("values", "options", "is_mask"),
    [
        ([0, 255], {}, True),
        ([0, 255], {"ignore_index": 255}, False),
        ([0, 255], {"zero_label": "ignored"}, False),
        ([0, 1, 255], {}, False),
        ([255], {}, False),
    ],
)
def test_a_mask_of_0_and_255_is_noted(
    card: ModelCard, path: Path, values: list[int], options: dict[str, Any], is_mask: bool
) -> None:
    save(path, np.uint8([values]))
    assert read_annotation(path, meaning(card, path, **options)).is_mask is is_mask


def test_only_the_first_files_are_looked_at(tmp_path: Path, card: ModelCard) -> None:
    many = entries(tmp_path, *[[0, 255]] * 8, [0, 1])
    with pytest.raises(DatasetError, match="looks like a mask"):
        check_first(many, meaning(card))


def test_what_cannot_be_read_is_left_to_the_reading(tmp_path: Path, card: ModelCard) -> None:
    many = entries(tmp_path, [0, 255], [0, 255])
    many[0].annotation.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"looks like a mask"):
        check_first(many, meaning(card))
    save(many[1].annotation, np.uint8([[[0, 0, 0], [255, 255, 255]]]))
    check_first(many, meaning(card))
    with pytest.raises(DatasetError, match=r"looks like a mask"):
        check_first(many, meaning(card, labels="index"))


# In words and in records


@pytest.mark.parametrize(
    ("notes", "options", "words"),
    [
        ({}, {"labels": "index"}, "labels by index: 0 class0 .. 4 class4; 255 ignored"),
        (
            {"reduce_zero_label": True},
            {"labels": "index"},
            "labels by index: 1 class0 .. 5 class4; 0, 255 ignored",
        ),
        (
            {},
            {},
            "labels by index: 0 class0 .. 4 class4; 255 ignored. RGB files by the card's colours, #e0e0c0 ignored",
        ),
        (
            {},
            {"labels": "colour"},
            "labels: by the card's colours, from class0 #0064c8 to class4 #0464c8, #e0e0c0 ignored",
        ),
    ],
)
def test_a_meaning_in_words(tmp_path: Path, notes: dict[str, Any], options: dict[str, Any], words: str) -> None:
    assert meaning(card_with(tmp_path / "card", **notes), **options).describe() == words


def test_meanings_that_read_alike_have_equal_records(tmp_path: Path, card: ModelCard) -> None:
    reduced = card_with(tmp_path / "reduced", reduce_zero_label=True)
    assert meaning(card).as_record() == meaning(reduced, zero_label="class").as_record()
    assert meaning(card).as_record() == meaning(card, ignore_index=255).as_record()
    assert meaning(card).as_record()["values"] == {"0-4": "0-4", "255": "ignored"}
    (tmp_path / "map.yml").write_text("{0: 0, 1: class1, 2: 2, 3: 3, 4: 4, 255: ignored}")
    by_file = meaning(card, label_map=tmp_path / "map.yml").as_record()
    assert by_file == meaning(card, labels="index").as_record()
    others = [{"ignore_index": 0}, {"zero_label": "ignored"}, {"labels": "colour"}, {"labels": "index"}]
    records = [json.dumps(meaning(card, **options).as_record()) for options in [{}, *others]]
    assert len(set(records)) == 5


def test_a_meaning_travels(card: ModelCard) -> None:
    found = meaning(card)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301
