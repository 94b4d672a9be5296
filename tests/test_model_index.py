"""mmsegmentation's index is read correctly, in spite of its mistakes, and each card derived from it is valid."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.cards.config_text import ConfigTexts
from pspnet_convert.cards.derived_card import derived_card
from pspnet_convert.cards.model_index import Published, package_folder, published
from pspnet_convert.errors import DependencyError

HOST = "https://download.openmmlab.com"


@pytest.fixture(scope="module")
def models() -> dict[str, Published]:
    return {model.name: model for model in published()}


@pytest.fixture(scope="module")
def cards(models: dict[str, Published]) -> dict[str, ModelCard]:
    return {name: derived_card(model) for name, model in models.items()}


def test_there_are_54_of_pspnets_own_and_16_with_its_head_on_other_backbones() -> None:
    found = published()
    folders = Counter(model.config.partition("/")[0] for model in found)
    assert folders == {"pspnet": 54, "fastfcn": 4, "mobilenet_v2": 2, "resnest": 2, "unet": 8}
    assert sum(folders.values()) - folders["pspnet"] == 16
    for key in ("name", "config", "url", "digest_prefix"):
        assert len({getattr(model, key) for model in found}) == 70, key


def test_the_texts_give_what_mmengine_makes_of_the_configs(models: dict[str, Published]) -> None:
    from mmengine.config import Config

    configs = package_folder() / "configs"
    texts = ConfigTexts()
    paths = [configs / model.config for model in models.values()]
    # Near misses: another head on the same neck, a nested PSPHead, a cascade of heads.
    paths += [next(configs.glob(f"{name}*.py")) for name in ("fastfcn/*jpu_enc", "knet/*pspnet", "point_rend/")]
    for path in paths:
        parsed = Config.fromfile(str(path))
        head = parsed.model.decode_head
        assert texts.value(path, "model", "decode_head", "type") == (None if isinstance(head, list) else head.type)
        if "crop_size" in parsed:
            assert texts.value(path, "crop_size") == parsed.crop_size


def test_a_config_that_the_index_names_twice_is_found_by_the_weights_name(models: dict[str, Published]) -> None:
    """The index has r50b-d32's name for both, and one of FastFCN's for its larger batch too."""
    for name, digest in {
        "pspnet_r50-d32_4xb2-80k_cityscapes-512x1024": "9092b254",
        "pspnet_r50b-d32_4xb2-80k_cityscapes-512x1024": "23bcaf8c",
        "fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024": "57749bed",
        "fastfcn_r50-d32_jpu_psp_4xb4-80k_cityscapes-512x1024": "77e87b0a",
    }.items():
        assert models[name].digest_prefix == digest
        assert Path(models[name].config).stem == name
        assert (package_folder() / "configs" / models[name].config).is_file()


def test_only_the_usual_host_is_asked(models: dict[str, Published], caplog: pytest.LogCaptureFixture) -> None:
    assert all(model.url.startswith(f"{HOST}/mmsegmentation/") for model in models.values())
    (odd,) = [model for model in models.values() if model.url != model.stated_url]
    assert odd.name == "pspnet_r101-d8_4xb2-80k_cityscapes-769x769"
    card = derived_card(odd)
    assert card.checkpoint.sources == [odd.url]
    assert "the host download.oz1z1penmmlab.com, which is probably misspelled" in card.description
    assert "download.oz1z1penmmlab.com; using download.openmmlab.com, as for the others" in caplog.text


def index_of(folder: Path, entries: list[dict[str, Any]], configs: dict[str, str]) -> Path:
    """An index like mmsegmentation's, of one metafile."""
    place = folder / "configs" / "psp"
    place.mkdir(parents=True)
    for name, text in configs.items():
        (place / name).write_text(text, encoding="utf-8")
    collection = {"Name": "PSPNet", "License": "Other", "Paper": {"URL": "https://example.org/paper"}}
    (place / "metafile.yaml").write_text(yaml.safe_dump({"Collections": [collection], "Models": entries}))
    (folder / "model-index.yml").write_text("Import:\n- configs/psp/metafile.yaml\n")
    return folder


def entry(config: str, weights: str, collection: str = "PSPNet", host: str = "a.example") -> dict[str, Any]:
    return {
        "Name": config,
        "In Collection": collection,
        "Config": f"configs/psp/{config}.py",
        "Results": {"Dataset": "D", "Metrics": {"mIoU": 1.0}},
        "Metadata": {"Architecture": ["B"]},
        "Weights": f"https://{host}/x/{weights}_20200101_000000-0123abcd.pth",
    }


PSP = "crop_size = (8, 16)\nmodel = dict(decode_head=dict(type='PSPHead'))\n"


def test_a_made_up_index_is_read_by_the_same_rules(tmp_path: Path) -> None:
    configs = {
        "base.py": PSP,
        "p_a_4xb2.py": "_base_ = 'base.py'\n",
        "p_b_4xb2.py": "_base_ = ['base.py']\ncrop_size = (32, 32)\n",
        "p_c.py": "_base_ = 'base.py'\nmodel = {'decode_head': {'type': 'FCNHead'}}\n",
        "p_d.py": "_base_ = 'base.py'\nmodel = dict(decode_head=[dict(type='PSPHead')])\n",
        "p_e.py": "_base_ = 'no_such.py'\n",
        "p_f.py": "this is no Python\n",
    }
    entries = [
        entry("p_b_4xb2", "p_a_4x2"),
        entry("p_b_4xb2", "p_b_4x2", collection="none such"),
        *(entry(f"p_{letter}", f"p_{letter}") for letter in "cdef"),
        entry("base", "base", host="b.example"),
    ]
    first, second, third = published(index_of(tmp_path, entries, configs))
    assert (first.name, first.config, first.crop_size) == ("p_a_4xb2", "psp/p_a_4xb2.py", (8, 16))
    assert (second.name, second.config, second.crop_size) == ("p_b_4xb2", "psp/p_b_4xb2.py", (32, 32))
    assert (third.stated_url[:18], third.url[:18]) == ("https://b.example/", "https://a.example/")
    assert (first.licence, second.licence) == ("Other", "Apache License 2.0")
    assert (first.papers, first.digest_prefix) == (("https://example.org/paper",), "0123abcd")


def test_a_package_without_its_index_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=r"model-index\.yml: mmsegmentation's model index is missing"):
        published(tmp_path)


# The cards


def test_the_derived_card_of_pspnet_pytorchs_network_says_what_its_own_card_says(cards: dict[str, ModelCard]) -> None:
    derived, own = cards["pspnet_r50-d8_4xb4-20k_voc12aug-512x512"], find_card("pspnet-pytorch")
    for part in ("input", "output", "classes", "config", "config_overrides", "license", "task_type", "framework"):
        assert getattr(derived, part) == getattr(own, part), part
    assert derived.checkpoint.name == own.checkpoint.name
    assert derived.checkpoint.sources == own.checkpoint.sources[:1]
    assert own.checkpoint.digest.startswith(derived.checkpoint.digest)
    assert (derived.accuracy[0].value, derived.accuracy[0].protocol) == (76.78, "mmseg")
    assert (derived.accuracy[0].value, derived.accuracy[0].protocol) in [(a.value, a.protocol) for a in own.accuracy]


def test_every_card_has_its_crop_size_and_eight_digits_of_its_digest(
    models: dict[str, Published], cards: dict[str, ModelCard]
) -> None:
    for name, card in cards.items():
        assert card.name == name
        assert card.input.shape[2:] == models[name].crop_size
        # Every name in the index ends with the size: a second source for it.
        height, width = map(int, name.replace("cityscapes512", "cityscapes-512").rpartition("-")[2].split("x"))
        assert (card.input.height, card.input.width) == (height, width)
        assert (card.gflops, card.mparams, card.checkpoint.size, card.checkpoint.sha256) == (None,) * 4
        assert re.fullmatch(r".*-[0-9a-f]{8}\.pth", card.checkpoint.name)
        assert card.checkpoint.name.endswith(f"-{card.checkpoint.digest_prefix}.pth")
        assert (card.license.name, card.license.file) == ("Apache-2.0", "APACHE-2.0-MMSegmentation-Models.txt")


def test_every_dataset_has_its_classes(models: dict[str, Published], cards: dict[str, ModelCard]) -> None:
    counts = {models[name].dataset: len(card.classes) for name, card in cards.items()}
    assert counts == {
        "Cityscapes": 19,
        "ADE20K": 150,
        "Pascal VOC 2012 + Aug": 21,
        "Pascal Context": 60,
        "Pascal Context 59": 59,
        "COCO-Stuff 10k": 171,
        "COCO-Stuff 164k": 171,
        "LoveDA": 7,
        "Potsdam": 6,
        "Vaihingen": 6,
        "iSAID": 16,
        **dict.fromkeys(("DRIVE", "STARE", "CHASE_DB1", "HRF"), 2),
    }
    assert cards["pspnet_r50-d8_4xb4-80k_isaid-896x896"].class_names[1] == "ship"
    assert cards["pspnet_r18-d8_4xb2-80k_cityscapes-769x769"].palette[0] == (128, 64, 128)


@pytest.mark.parametrize(
    ("name", "metric", "how"),
    [
        ("pspnet_r50-d8_4xb4-80k_ade20k-512x512", "mean_iou", "scale 2048x512 with aspect kept, whole image; mIoU"),
        (
            "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024",
            "mean_iou",
            "scale 2048x1024 with aspect kept, whole image; mIoU",
        ),
        (
            "pspnet_r50-d8_4xb2-40k_cityscapes-769x769",
            "mean_iou",
            "windows of 769x769 (height x width) every 513x513 pixels; mIoU",
        ),
        (
            "unet-s5-d16_pspnet_4xb4-40k_hrf-256x256",
            "mean_dice",
            "windows of 256x256 (height x width) every 170x170 pixels; mDice",
        ),
    ],
)
def test_a_published_figure_is_by_mmsegmentations_own_test(
    cards: dict[str, ModelCard], name: str, metric: str, how: str
) -> None:
    (figure,) = cards[name].accuracy
    assert (figure.metric, figure.protocol) == (metric, "mmseg")
    assert how in (figure.description or "")
