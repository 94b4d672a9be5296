"""Which card a name on the command line means, and that a wheel contains the card's files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Cli

from pspnet_convert.cards.card import load_card
from pspnet_convert.cards.catalog import DEFAULT_MODEL, built_in, find_card, shipped

ROOT = Path(__file__).parent.parent


def test_no_name_means_the_top_level_card(cli: Cli) -> None:
    assert DEFAULT_MODEL == "pspnet-pytorch"
    assert find_card() == find_card(DEFAULT_MODEL) == load_card(ROOT / "model.yml")
    assert cli("info", "--json").json()["name"] == DEFAULT_MODEL


@pytest.mark.parametrize("name", ["pspnet-pytorch", "demo"])
def test_every_built_in_card_has_its_own_name(cli: Cli, name: str) -> None:
    assert sorted(built_in()) == ["demo", "pspnet-pytorch"]
    result = cli("info", name, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.json()["name"] == name


def test_a_card_is_found_by_its_path_and_by_its_folder(tmp_path: Path) -> None:
    path = Path(shutil.copy(ROOT / "model.yml", tmp_path / "other.yaml"))
    assert find_card(str(path)).folder == tmp_path
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(ROOT / "model.yml", folder)
    assert find_card(str(folder)).folder == folder


def test_a_built_in_name_wins_over_a_folder_of_that_name(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").mkdir()
    shutil.copy(ROOT / "model.yml", tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert cli("info", "demo", "--json").json()["name"] == "demo"
    assert cli("info", "./demo", "--json").json()["name"] == "pspnet-pytorch"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("dmeo", "demo"),
        ("pspnet_pytorch", "pspnet-pytorch"),
        ("pspnet_r50-d8_4xb2-40k_cityscapes-512x1042", "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(cli: Cli, typed: str, meant: str) -> None:
    result = cli("info", typed)
    assert result.exit_code == 3
    assert (
        f"no model named '{typed}'. Did you mean '{meant}'? Run `pspnet-convert list` for all names, or give"
        in result.error
    )


def test_a_name_unlike_any_other_gets_no_suggestion(cli: Cli) -> None:
    result = cli("info", "xyz")
    assert result.exit_code == 3
    assert (
        "no model named 'xyz'. Run `pspnet-convert list` for all names, or give the path of a model.yml" in result.error
    )
    assert "no model named 'xxx" in cli("info", "x" * 300).error  # longer than a path may be


def test_a_published_models_name_wins_over_a_folder_of_that_name(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_drive-64x64"
    (tmp_path / name).mkdir()
    shutil.copy(ROOT / "model.yml", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert cli("info", name, "--json").json()["name"] == name
    assert cli("info", f"./{name}", "--json").json()["name"] == "pspnet-pytorch"


@pytest.mark.parametrize(
    ("name", "background"),
    [
        ("pspnet-pytorch", "background"),
        ("demo", "background"),
        ("pspnet_r50-d8_4xb4-80k_loveda-512x512", "background"),
        ("unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_drive-64x64", "background"),
        ("pspnet_r18-d8_4xb2-80k_cityscapes-769x769", None),
        ("pspnet_r50-d8_4xb4-80k_ade20k-512x512", None),
    ],
)
def test_the_background_is_the_class_of_that_name(cli: Cli, name: str, background: str | None) -> None:
    assert find_card(name).background == background
    shown = cli("info", name).stdout
    assert re.search(rf"background +│ {background or 'none of them'}", shown), shown


def test_info_of_a_published_model_shows_no_figures_that_nobody_stated(cli: Cli) -> None:
    name = "pspnet_r18-d8_4xb2-80k_cityscapes-769x769"
    shown = cli("info", name)
    assert shown.exit_code == 0, shown.stderr
    assert "mean_iou 75.9 %  mmseg: mmsegmentation" in shown.stdout
    assert "CityscapesDataset: classes count from 0; 255 is ignored; img:" in shown.stdout
    assert "leftImg8bit/val/*_leftImg8bit.png" in shown.stdout
    test = "scale 2049x1025 with aspect kept, windows of 769x769 (height x width) every 513x513 pixels; mIoU"
    assert test in shown.stdout
    assert "GFLOPs" not in shown.stdout
    assert "MParams" not in shown.stdout
    assert "None" not in shown.stdout
    (told,) = cli("info", name, "--omz-json").json()
    assert (told["name"], told["input_info"][0]["shape"]) == (name, [1, 3, 769, 769])


# What `list` shows


def test_list_has_every_model_once_and_breaks_no_name(cli: Cli) -> None:
    rows = cli("list", "--json").json()
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names)) == 72
    assert names[:2] == ["pspnet-pytorch", "demo"]
    table = cli("list").stdout
    assert [name for name in names if f" {name} " not in table] == []
    assert [row["digest_prefix"] for row in rows if f" {row['digest_prefix']} " not in table] == []
    # One figure of one network is listed twice: on its own card, and in the index.
    (own, index) = (row for row in rows if row["digest_prefix"] == "ed5dfbd9")
    assert (own["metrics"]["mIoU"], own["backbone"]) == (index["metrics"]["mIoU"], index["backbone"])


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["--dataset", "CITYSCAPES"], 25),
        (["--dataset", "drive"], 2),
        (["--backbone", "unet"], 8),
        (["--backbone", "r-18b"], 2),
        (["--search", "isaid"], 2),
        (["--search", "jpu"], 4),
        (["--search", "S-101-D8"], 2),
        (["--dataset", "ade20k", "--backbone", "m-v2"], 1),
    ],
)
def test_list_is_filtered(cli: Cli, filters: list[str], count: int) -> None:
    rows = cli("list", "--json", *filters).json()
    assert len(rows) == count
    for value in filters[1::2]:
        texts = [f"{row['name']} {row['dataset']} {row['backbone']}".casefold() for row in rows]
        assert all(value.casefold() in text for text in texts)


def test_list_says_that_nothing_fits(cli: Cli) -> None:
    result = cli("list", "--search", "segformer", "--json")
    assert (result.exit_code, result.json()) == (0, [])
    assert result.stderr == "no model fits; list without filters shows all\n"
    assert cli("list", "--search", "segformer").stdout == ""


def test_list_needs_neither_torch_nor_mmsegmentation(tmp_path: Path) -> None:
    program = (
        "import sys; from pspnet_convert.cards.catalog import listed; assert len(listed()) == 72; "
        "print(sorted({'torch', 'mmseg', 'mmengine', 'mmcv', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_misspelt_path_is_taken_for_a_path(cli: Cli, tmp_path: Path) -> None:
    result = cli("info", tmp_path / "modle.yml")
    assert result.exit_code == 3
    assert f"{tmp_path / 'modle.yml'}: cannot be read" in result.error


def test_card_and_licence_are_found_in_the_checkout() -> None:
    assert shipped("model.yml") == ROOT / "model.yml"
    assert shipped("licenses") == ROOT / "licenses"
    assert (shipped("licenses") / "APACHE-2.0-MMSegmentation-Models.txt").is_file()


def forced_in() -> dict[str, str]:
    """What pyproject.toml has hatch put into the wheel besides the package."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[tool.hatch.build.targets.wheel.force-include]\n")[2].partition("\n[")[0]
    return dict(re.findall(r'^"(.+)" = "(.+)"$', table, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of an installed wheel, copied by the rules in pyproject.toml."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "pspnet_convert", folder / "pspnet_convert", ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in forced_in().items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, folder / target)
    return folder


# The digests of a model's verification inputs, which come from the samples and the card's dataset.
INPUTS = """
import hashlib, json
from pspnet_convert.cards import catalog
from pspnet_convert.commands.verify.inputs import verification_inputs
print(json.dumps({
    "paths": [str(catalog.shipped(name)) for name in ("model.yml", "licenses", "schemas")]
    + [str(path) for path in catalog.built_in().values()],
    "inputs": [
        (model, one.name, hashlib.sha256(one.image.tobytes()).hexdigest())
        for model in catalog.built_in()
        for one in verification_inputs(catalog.find_card(model), (1, 3, 64, 96))
    ],
}))
"""


def test_an_installed_package_finds_all_that_it_ships(installed: Path, tmp_path: Path) -> None:
    told = {}
    for place in (ROOT, installed):
        environment = {**os.environ, "PYTHONPATH": str(place)}
        command = [sys.executable, "-c", INPUTS]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told[place] = json.loads(done.stdout)
    assert len(told[installed]["inputs"]) >= 3
    assert told[installed]["inputs"] == told[ROOT]["inputs"]
    for path in map(Path, told[installed]["paths"]):
        assert path.is_relative_to(installed / "pspnet_convert")
        assert path.exists()


def test_a_built_wheel_contains_card_licence_demo_and_samples(tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*wheel, "-w", str(tmp_path), str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    wanted = {
        "pspnet_convert/model.yml",
        "pspnet_convert/licenses/APACHE-2.0-MMSegmentation-Models.txt",
        "pspnet_convert/schemas/manifest.schema.json",
        "pspnet_convert/data/demo/model.yml",
        "pspnet_convert/data/demo/demo.pth",
        "pspnet_convert/data/demo/voc/ImageSets/Segmentation/val.txt",
        *(f"pspnet_convert/report_page/{name}" for name in ("page.html.j2", "parts.html.j2", "snippet.py.j2")),
        "pspnet_convert/report_page/page.css",
        "pspnet_convert/report_page/page.js",
    } | {
        f"pspnet_convert/data/samples/{photo.name}"
        for photo in (ROOT / "pspnet_convert" / "data" / "samples").glob("*.jpg")
    }
    assert wanted <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "scripts/"))]
