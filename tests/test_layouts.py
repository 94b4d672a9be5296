"""Data sets in the layouts that people have: which images are found, in which order, with which annotations."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from data_cards import card_with, tree

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.dataset import DataSet, check_files, find_data
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.errors import DatasetError, OptionError
from pspnet_convert.mmcv_ops import provide_mmcv_ops

VOC = {
    "image_folder": "JPEGImages",
    "annotation_folder": "SegmentationClass",
    "list_file": "ImageSets/Segmentation/val.txt",
}
IMG_DIR = {"image_folder": "img_dir/val", "annotation_folder": "ann_dir/val", "image_suffix": ".png"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def plain(tmp_path: Path) -> ModelCard:
    """A card that says nothing of folders."""
    return card_with(tmp_path / "plain")


def found(card: ModelCard, **options: Any) -> DataSet:
    return find_data(EvaluateOptions(**options), card)


def pairs(data: DataSet, root: Path) -> list[tuple[str, str]]:
    return [
        (entry.image.relative_to(root).as_posix(), entry.annotation.relative_to(root).as_posix())
        for entry in data.entries
    ]


def names(data: DataSet) -> list[str]:
    return [entry.name for entry in data.entries]


# As mmsegmentation's own classes


def two(folder: str, labels: str, image: str, label: str) -> list[str]:
    stems = ("b", "a", "city/c", "a-b")
    return [f"{folder}/{stem}{image}" for stem in stems] + [f"{labels}/{stem}{label}" for stem in stems]


VALIDATION = ("images/validation", "annotations/validation")
THEIRS = [
    ("ADE20KDataset", *VALIDATION, ".jpg", ".png", None),
    ("CityscapesDataset", "leftImg8bit/val", "gtFine/val", "_leftImg8bit.png", "_gtFine_labelTrainIds.png", None),
    ("LoveDADataset", "img_dir/val", "ann_dir/val", ".png", ".png", None),
    ("PotsdamDataset", "img_dir/val", "ann_dir/val", ".png", ".png", None),
    ("ISPRSDataset", "img_dir/val", "ann_dir/val", ".png", ".png", None),
    ("COCOStuffDataset", "images/val2017", "annotations/val2017", ".jpg", "_labelTrainIds.png", None),
    ("COCOStuffDataset", "images/test2014", "annotations/test2014", ".jpg", "_labelTrainIds.png", None),
    ("PascalVOCDataset", "JPEGImages", "SegmentationClass", ".jpg", ".png", "ImageSets/Segmentation/val.txt"),
    (
        "PascalContextDataset",
        "JPEGImages",
        "SegmentationClassContext",
        ".jpg",
        ".png",
        "ImageSets/SegmentationContext/val.txt",
    ),
    ("DRIVEDataset", *VALIDATION, ".png", "_manual1.png", None),
    ("STAREDataset", *VALIDATION, ".png", ".ah.png", None),
    ("ChaseDB1Dataset", *VALIDATION, ".png", "_1stHO.png", None),
    ("HRFDataset", *VALIDATION, ".png", ".png", None),
]


@pytest.mark.parametrize(("name", "images", "labels", "image", "label", "listed"), THEIRS)
def test_the_cards_layout_is_that_of_mmsegmentations_class(
    tmp_path: Path, root: Path, name: str, images: str, labels: str, image: str, label: str, listed: str | None
) -> None:
    tree(root, *two(images, labels, image, label), f"{images}/notes.txt", f"{labels}/x_color.tif")
    if listed:
        tree(root, listed)
        (root / listed).write_text("b\ncity/c\na\n")
    provide_mmcv_ops()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmseg.datasets

        theirs = getattr(mmseg.datasets, name)(
            data_root=str(root), data_prefix={"img_path": images, "seg_map_path": labels}, ann_file=listed or ""
        )
    assert (theirs.img_suffix, theirs.seg_map_suffix) == (image, label)
    card = card_with(
        tmp_path / "card",
        dataset=name,
        image_folder=images,
        annotation_folder=labels,
        image_suffix=image,
        annotation_suffix=label,
        **({"list_file": listed} if listed else {}),
    )
    data = found(card, dataset=root)
    assert (data.layout, data.name) == ("card", "root")
    expected = [(one["img_path"], one["seg_map_path"]) for one in theirs.load_data_list()]
    assert len(expected) == (4 if listed is None else 3)
    assert [(str(entry.image), str(entry.annotation)) for entry in data.entries] == expected


# Which layout it is


@pytest.mark.parametrize(
    ("files", "layout", "split"),
    [
        (["img_dir/val/a.jpg", "ann_dir/val/a.png"], "img_dir", "val"),
        (["images/validation/a.jpg", "annotations/validation/a.png"], "images", "validation"),
        (["images/val/a.jpg", "annotations/val/a.png"], "images", "val"),
        (["images/a.jpg", "annotations/a.png"], "images", None),
        (["leftImg8bit/val/x/a_leftImg8bit.png", "gtFine/val/x/a_gtFine_labelTrainIds.png"], "cityscapes", "val"),
        (["Val/Rural/images_png/7.png", "Val/Rural/masks_png/7.png"], "loveda", "Val"),
    ],
)
def test_a_layout_is_recognised(plain: ModelCard, root: Path, files: list[str], layout: str, split: str | None) -> None:
    data = found(plain, dataset=tree(root, *files))
    assert (data.layout, data.split) == (layout, split)
    assert pairs(data, root) == [tuple(files)]
    assert data.describe().startswith(f"1 image of {root.name}, layout {layout}: ")


def test_loveda_as_it_is_published(plain: ModelCard, root: Path) -> None:
    for area, name in (("Urban", 3), ("Urban", 1), ("Rural", 2)):
        tree(root, f"Val/{area}/images_png/{name}.png", f"Val/{area}/masks_png/{name}.png")
    assert names(found(plain, dataset=root)) == ["2", "1", "3"]


def voc_tree(root: Path) -> Path:
    tree(root, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "SegmentationClass/a.png", "SegmentationClass/b.png")
    tree(root, "ImageSets/Segmentation/val.txt", "ImageSets/Segmentation/test.txt")
    (root / "ImageSets/Segmentation/val.txt").write_text("b\n")
    (root / "ImageSets/Segmentation/test.txt").write_text("a\nb\n")
    return root


def test_a_card_without_folders_takes_the_list_of_a_voc_root(plain: ModelCard, root: Path) -> None:
    data = found(plain, dataset=voc_tree(root))
    assert (data.layout, names(data), data.split) == ("voc", ["b"], "val")
    assert names(found(plain, dataset=root, split="test")) == ["a", "b"]
    assert "listed in ImageSets/Segmentation/val.txt" in data.describe()


def test_the_cards_layout_comes_first(tmp_path: Path, root: Path) -> None:
    tree(voc_tree(root), "img_dir/val/a.png", "ann_dir/val/a.png")
    data = found(card_with(tmp_path / "card", **IMG_DIR), dataset=root)
    assert (data.layout, pairs(data, root)) == ("card", [("img_dir/val/a.png", "ann_dir/val/a.png")])


def test_several_layouts_ask_for_one(plain: ModelCard, root: Path) -> None:
    tree(voc_tree(root), "img_dir/val/a.jpg", "ann_dir/val/a.png")
    with pytest.raises(DatasetError, match="may be in layout voc or img_dir") as error:
        found(plain, dataset=root)
    assert "--layout" in str(error.value.advice)
    assert names(found(plain, dataset=root, layout="img_dir")) == ["a"]


def test_no_layout(plain: ModelCard, root: Path) -> None:
    tree(root, "pictures/a.jpg")
    with pytest.raises(
        DatasetError, match=r"JPEGImages \+ SegmentationClass \(card\), ImageSets.*img_dir/val"
    ) as error:
        found(plain, dataset=root)
    assert "--layout" in str(error.value.advice)
    assert "--images" in str(error.value.advice)


def test_a_folder_too_high(plain: ModelCard, root: Path) -> None:
    voc_tree(root / "VOC2012")
    with pytest.raises(DatasetError) as error:
        found(plain, dataset=root)
    assert error.value.advice == f"Did you mean --dataset {root / 'VOC2012'}?"


def test_images_of_the_card_without_its_annotations_are_no_other_layout(tmp_path: Path, root: Path) -> None:
    """Pascal Context's images are Pascal VOC's, whose annotations are of other classes."""
    card = card_with(tmp_path / "card", image_folder="JPEGImages", annotation_folder="SegmentationClassContext")
    with pytest.raises(DatasetError, match="has the card's JPEGImages, but no SegmentationClassContext"):
        found(card, dataset=voc_tree(root))
    assert found(card, dataset=root, layout="voc").layout == "voc"


def test_a_forced_layout_that_is_not_there(plain: ModelCard, root: Path) -> None:
    with pytest.raises(DatasetError, match="layout images has no split 'val': no images/val with annotations/val"):
        found(plain, dataset=voc_tree(root), layout="images")
    with pytest.raises(DatasetError, match="there is no such folder, where the card has the data set's"):
        found(plain, dataset=tree(root / "empty", "x").parent / "empty", layout="card")
    with pytest.raises(DatasetError, match="layout loveda has no split 'val'"):
        found(plain, dataset=root, layout="loveda")


def test_a_root_that_is_not_there(plain: ModelCard, root: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such folder"):
        found(plain, dataset=root)


def test_no_data_set(plain: ModelCard) -> None:
    with pytest.raises(DatasetError, match="small comes with no data set"):
        found(plain)


def test_the_data_set_that_comes_with_the_model(tmp_path: Path) -> None:
    card = card_with(tmp_path / "card", **VOC).model_copy(update={"dataset": "voc"}).at(tmp_path / "card/model.yml")
    voc_tree(tmp_path / "card/voc")
    assert (found(card).name, found(card).layout, names(found(card))) == ("voc", "card", ["b"])


# Splits


@pytest.mark.parametrize(
    ("folder", "there", "split"),
    [
        ("images/validation", "images/training", "train"),
        ("images/validation", "images/test", "test"),
        ("images/val2017", "images/train2017", "train"),
        ("images/val2017", "images/train", "train"),
        ("img_dir/val", "img_dir/train", "training"),
        ("validation/images", "training/images", "train"),
    ],
)
def test_another_split_of_the_cards(tmp_path: Path, root: Path, folder: str, there: str, split: str) -> None:
    card = card_with(tmp_path / "card", image_folder=folder, annotation_folder=f"masks/{folder}")
    tree(root, f"{folder}/a.jpg", f"masks/{folder}/a.png", f"{there}/b.jpg", f"masks/{there}/b.png")
    assert names(found(card, dataset=root)) == ["a"]
    assert names(found(card, dataset=root, split=split)) == ["b"]


def test_another_split_of_the_cards_list(tmp_path: Path, root: Path) -> None:
    card = card_with(tmp_path / "card", **VOC)
    data = found(card, dataset=voc_tree(root), split="test")
    assert (data.layout, data.split, names(data)) == ("card", "test", ["a", "b"])
    with pytest.raises(DatasetError, match=r"some\.txt: the list of images cannot be read: No such file"):
        found(card, dataset=root, split="some")


def test_a_split_that_is_not_there_names_the_others(plain: ModelCard, root: Path) -> None:
    with pytest.raises(DatasetError, match=r"train\.txt: the list of images cannot be read") as error:
        found(plain, dataset=voc_tree(root), split="train")
    assert error.value.advice == "It has test, val: give one with --split."
    tree(root / "two", "img_dir/train/a.jpg", "ann_dir/train/a.png")
    with pytest.raises(DatasetError, match="no img_dir/val with ann_dir/val") as error:
        found(plain, dataset=root / "two")
    assert error.value.advice == "It has train: give one with --split."


def test_a_list_of_the_card_that_is_not_there_names_the_others(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DatasetError, match=r"nope\.txt: the list of images cannot be read") as error:
        found(card_with(tmp_path / "card", **VOC), dataset=voc_tree(root), split="nope")
    assert "It has test, val: give one with --split" in str(error.value.advice)


def test_a_card_without_splits(plain: ModelCard, root: Path) -> None:
    with pytest.raises(DatasetError, match="the card's data set has no splits"):
        found(plain, dataset=voc_tree(root), split="train", layout="card")


# Suffixes


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".PNG", ".tif", ".TIFF", ".bmp"])
def test_other_suffixes_are_found(tmp_path: Path, root: Path, suffix: str) -> None:
    tree(root, f"img_dir/val/a{suffix}", "ann_dir/val/a.TIF", f"img_dir/val/b{suffix}", "ann_dir/val/b.PNG")
    (root / "list.txt").write_text("b\na\n")
    for card in (card_with(tmp_path / "plain"), card_with(tmp_path / "card", **IMG_DIR)):
        expected = [
            (f"img_dir/val/a{suffix}", "ann_dir/val/a.TIF"),
            (f"img_dir/val/b{suffix}", "ann_dir/val/b.PNG"),
        ]
        assert pairs(found(card, dataset=root), root) == expected
        assert pairs(found(card, dataset=root, list_file=root / "list.txt"), root) == expected[::-1]


def test_the_cards_suffix_comes_first(tmp_path: Path, root: Path) -> None:
    tree(root, "img_dir/val/a.jpg", "img_dir/val/a.png", "ann_dir/val/a.png", "ann_dir/val/a.gif")
    data = found(card_with(tmp_path / "card", **IMG_DIR), dataset=root)
    assert pairs(data, root) == [("img_dir/val/a.png", "ann_dir/val/a.png")]
    assert data.describe().endswith("1 other file in img_dir/val not used")


def test_a_folder_without_images(plain: ModelCard, tmp_path: Path, root: Path) -> None:
    tree(root, "img_dir/val/a.txt", "ann_dir/val/a.png")
    with pytest.raises(DatasetError, match="has no image"):
        found(plain, dataset=root)
    tree(root, "img_dir/val/a.png")
    card = card_with(tmp_path / "card", **{**IMG_DIR, "image_suffix": "_sat.png"})
    with pytest.raises(DatasetError, match=r"has no image ending in _sat\.png"):
        found(card, dataset=root)


def test_an_annotation_needs_the_cards_suffix(tmp_path: Path, root: Path) -> None:
    """COCO-Stuff's own annotations, of other numbers, may be next to those that mmsegmentation makes."""
    card = card_with(tmp_path / "card", **{**IMG_DIR, "annotation_suffix": "_labelTrainIds.png"})
    data = found(card, dataset=tree(root, "img_dir/val/a.png", "ann_dir/val/a.png"))
    with pytest.raises(DatasetError, match=r"a_labelTrainIds\.png: there is no such annotation"):
        check_files(data.entries[0])
    assert "; 1 without annotation" in data.describe()


CITYSCAPES = {
    "dataset": "CityscapesDataset",
    "image_folder": "leftImg8bit/val",
    "annotation_folder": "gtFine/val",
    "image_suffix": "_leftImg8bit.png",
    "annotation_suffix": "_gtFine_labelTrainIds.png",
}


@pytest.mark.parametrize("layout", ["card", "cityscapes"])
def test_label_ids_are_taken_where_no_train_ids_are(tmp_path: Path, root: Path, layout: str) -> None:
    card = card_with(tmp_path / "card", classes=19, **CITYSCAPES)
    for stem in ("bonn/a", "ulm/b"):
        tree(root, f"leftImg8bit/val/{stem}_leftImg8bit.png", f"gtFine/val/{stem}_gtFine_labelIds.png")
        tree(root, f"gtFine/val/{stem}_gtFine_color.png", f"gtFine/val/{stem}_gtFine_instanceIds.png")
    data = found(card, dataset=root, layout=layout)
    assert names(data) == ["bonn/a", "ulm/b"]
    assert [entry.annotation.name for entry in data.entries] == ["a_gtFine_labelIds.png", "b_gtFine_labelIds.png"]
    tree(root, "gtFine/val/bonn/a_gtFine_labelTrainIds.png")
    kinds = [entry.annotation.name for entry in found(card, dataset=root, layout=layout).entries]
    assert kinds == ["a_gtFine_labelTrainIds.png", "b_gtFine_labelTrainIds.png"]


# Two folders


@pytest.mark.parametrize(
    ("notes", "image", "label"),
    [
        ({}, "21.JPG", "21.png"),
        (CITYSCAPES, "x/21_leftImg8bit.png", "x/21_gtFine_labelTrainIds.png"),
        (CITYSCAPES, "x/21_leftImg8bit.png", "x/21_gtFine_labelIds.png"),
        (CITYSCAPES, "21.jpg", "21.bmp"),
        ({"image_suffix": ".png", "annotation_suffix": "_manual1.png"}, "21_training.png", "21_training_manual1.png"),
        ({"image_suffix": ".png", "annotation_suffix": "_manual1.png"}, "21_training.tif", "21_training_manual1.gif"),
    ],
)
def test_two_folders_are_paired_by_stem(
    tmp_path: Path, root: Path, notes: dict[str, str], image: str, label: str
) -> None:
    card = card_with(tmp_path / "card", classes=19, **notes)
    tree(root, f"one/{image}", f"two/{label}", "two/more.png")
    data = found(card, images=root / "one", annotations=root / "two")
    assert (data.layout, data.split, data.name) == ("images and annotations", None, "one")
    assert pairs(data, root) == [(f"one/{image}", f"two/{label}")]
    assert "1 other file in two not used" in data.describe()


def test_two_kinds_of_files_in_one_folder(plain: ModelCard, root: Path) -> None:
    tree(root, "b.jpg", "b.png", "a.jpg", "a.png")
    assert pairs(found(plain, images=root, annotations=root), root) == [("a.jpg", "a.png"), ("b.jpg", "b.png")]
    (root / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.jpg: is without an annotation"):
        found(plain, images=root, annotations=root)


def test_images_without_annotation_are_named(plain: ModelCard, root: Path) -> None:
    tree(root, "one/a.jpg", "one/b.jpg", "one/c.jpg", "two/a.png")
    words = r"one/b\.jpg: is without an annotation in .*two, and so is 1 more of 3"
    with pytest.raises(DatasetError, match=words) as error:
        found(plain, images=root / "one", annotations=root / "two")
    assert "--list-file" in str(error.value.advice)
    data = found(plain, images=root / "one", annotations=root / "two", skip_bad=True)
    assert len(data.entries) == 3
    assert "2 without annotation" in data.describe()


def test_two_images_of_one_stem(plain: ModelCard, root: Path) -> None:
    tree(root, "one/a.jpg", "one/a.png", "two/a.png")
    with pytest.raises(DatasetError, match=r"a\.png: has the same name as .*a\.jpg"):
        found(plain, images=root / "one", annotations=root / "two")
    (root / "list.txt").write_text("a.png\n")
    data = found(plain, images=root / "one", annotations=root / "two", list_file=root / "list.txt")
    assert pairs(data, root) == [("one/a.png", "two/a.png")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": Path("x")}, "--images and --annotations go together"),
        ({"annotations": Path("x")}, "--images and --annotations go together"),
        ({"images": Path("x"), "annotations": Path("x"), "dataset": Path("x")}, "--dataset does not go with"),
        ({"images": Path("x"), "annotations": Path("x"), "layout": "voc"}, "--layout does not go with"),
        ({"images": Path("x"), "annotations": Path("x"), "split": "train"}, "--split does not go with"),
    ],
)
def test_options_that_do_not_go_together(plain: ModelCard, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        found(plain, **options)


def test_a_folder_that_is_not_there(plain: ModelCard, root: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such folder"):
        found(plain, images=root, annotations=root)


def test_links_and_hidden_files(plain: ModelCard, root: Path) -> None:
    tree(root, "real/a.jpg", "one/._b.jpg", "two/city/a.png")
    (root / "one/city").symlink_to(root / "real")
    (root / "real/loop").symlink_to(root / "one")
    assert names(found(plain, images=root / "one", annotations=root / "two")) == ["city/a"]


# Lists


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b\na\n", ["b", "a"]),
        ("  b \r\n\r\n\n a c\r\n", ["b", "a c"]),
        ("\ufeffb.jpg\n", ["b"]),
        ("JPEGImages/b.jpg\n", ["b"]),
        ("JPEGImages/b.jpg SegmentationClass/b.png\n", ["b"]),
        ("/JPEGImages/b.jpg /SegmentationClass/b.png\n", ["b"]),
        ("b.jpg\tb.png\n", ["b"]),
        ("a c.jpg a c.png\n", ["a c"]),
        ("JPEGImages\\b.jpg SegmentationClass\\b.png\n", ["b"]),
        ("gone\nb\n", ["gone", "b"]),
        ("gone.jpg gone.png\n", ["gone"]),
    ],
)
@pytest.mark.parametrize("how", ["option", "card", "voc", "folders"])
def test_lines_of_a_list(tmp_path: Path, root: Path, text: str, expected: list[str], how: str) -> None:
    tree(voc_tree(root), "JPEGImages/a c.jpg", "SegmentationClass/a c.png")
    listed = root / "ImageSets/Segmentation/val.txt"
    options: dict[str, Any] = {"dataset": root}
    if how in ("option", "folders"):
        listed.unlink()
        listed = root / "mine.txt"
        options["list_file"] = listed
    if how == "folders":
        del options["dataset"]
        options.update(images=root / "JPEGImages", annotations=root / "SegmentationClass")
    listed.write_text(text, encoding="utf-8")
    card = card_with(tmp_path / "card", **({} if how == "voc" else VOC))
    data = found(card, **options)
    assert names(data) == expected
    for entry in data.entries:
        if "gone" not in entry.name:
            check_files(entry)
    stems = [(entry.image.stem, entry.annotation.stem) for entry in data.entries]
    assert stems == [(Path(name).name, Path(name).name) for name in expected]
    assert f"listed in {listed.relative_to(root).as_posix()}" in data.describe()


def test_a_list_of_pairs_needs_no_layout(plain: ModelCard, root: Path) -> None:
    tree(root, "one/a.jpg", "two/x.png", "lists/l.txt")
    (root / "lists/l.txt").write_text("one/a.jpg two/x.png\n")
    data = found(plain, dataset=root, list_file=root / "lists/l.txt")
    assert pairs(data, root) == [("one/a.jpg", "two/x.png")]
    (root / "lists/l.txt").write_text("../one/a.jpg ../two/x.png\n")
    check_files(found(plain, dataset=root, list_file=root / "lists/l.txt").entries[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the list of images cannot be read: No such file or directory"),
        (b"\xff\xfe\x00", "the list of images cannot be read: is not text"),
        (b" \n", "lists no image"),
        (b"a\nb\na\n", "lists 'a' more than once"),
        (b"a\na.jpg\n", "lists 'a' more than once"),
        (b"a\nJPEGImages/a.jpg SegmentationClass/b.png\n", "lists 'a' more than once"),
    ],
)
def test_a_list_that_is_none(plain: ModelCard, root: Path, content: bytes | None, words: str) -> None:
    listed = voc_tree(root) / "mine.txt"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        found(plain, dataset=root, list_file=listed)


def test_a_listed_image_that_is_not_there_keeps_its_suffix(plain: ModelCard, root: Path) -> None:
    (voc_tree(root) / "mine.txt").write_text("gone.jpg\n")
    entry = found(plain, dataset=root, list_file=root / "mine.txt").entries[0]
    with pytest.raises(DatasetError, match=r"/gone\.jpg: there is no such image"):
        check_files(entry)


def test_a_line_longer_than_any_path(plain: ModelCard, root: Path) -> None:
    (voc_tree(root) / "mine.txt").write_text(f"{'x' * 9000}\n")
    entry = found(plain, dataset=root, list_file=root / "mine.txt").entries[0]
    with pytest.raises(DatasetError, match="there is no such image"):
        check_files(entry)


@pytest.mark.parametrize("remove", ["JPEGImages/b.jpg", "SegmentationClass/b.png"])
def test_a_listed_file_that_is_not_there_is_reported_when_it_is_read(plain: ModelCard, root: Path, remove: str) -> None:
    (voc_tree(root) / remove).unlink()
    entry = found(plain, dataset=root).entries[0]
    with pytest.raises(DatasetError, match=f"{remove}: there is no such"):
        check_files(entry)
