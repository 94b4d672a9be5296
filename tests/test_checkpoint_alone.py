"""`--checkpoint` alone: the config in the checkpoint's metadata, read as data and never run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, slow
from test_own_model import OF_TEST, OLD, changed, new_config, weights, write

from pspnet_convert import files, job
from pspnet_convert.cards import catalog, own_model
from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.config_data import NotDataError, parse_config
from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.cards.own_model import own_card
from pspnet_convert.errors import ConvertError

__all__ = ["weights", "write"]  # fixtures


def pretty(text: str) -> str:
    """A config's text as mmengine and mmcv write it into a checkpoint."""
    from mmengine.config import Config

    return str(Config.fromstring(text, ".py").pretty_text)


def trained_by(weights: Path, release: str, small: ModelCard) -> Path:
    if release == "0.x":
        return changed(weights, config=pretty(OLD + OF_TEST), exp_name="My Config.py")
    dataset = {"classes": small.class_names, "palette": [list(colour) for colour in small.palette]}
    name = "My Config_20260102_030405"
    new = {"cfg": pretty(new_config(small)), "dataset_meta": dataset, "experiment_name": name}
    return changed(weights, config=None, CLASSES=None, PALETTE=None, **new)


@pytest.mark.parametrize("release", ["0.x", "1.x"])
def test_it_goes_on_as_with_the_config(
    cli: Cli, small: ModelCard, weights: Path, write: Callable[..., Path], tmp_path: Path, release: str
) -> None:
    trained_by(weights, release, small)
    text = OLD + OF_TEST if release == "0.x" else new_config(small)
    done = cli("export-onnx", "--checkpoint", weights, "-o", tmp_path / "alone")
    assert done.exit_code == 0, done.stderr
    assert cli("export-onnx", "--config", write(text), "--checkpoint", weights, "-o", tmp_path / "both").exit_code == 0
    alone, both = (load_card(tmp_path / out / "public" / "my-config" / "model.yml") for out in ("alone", "both"))
    assert alone.description == "PSPNet from the config in my weights.pth."
    assert alone.model_dump(exclude={"description"}) == both.model_dump(exclude={"description"})
    onnx = [tmp_path / out / "public" / "my-config" / "my-config.onnx" for out in ("alone", "both")]
    assert onnx[0].read_bytes() == onnx[1].read_bytes()
    assert cli("to-ir", "--checkpoint", weights, "-o", tmp_path / "alone").exit_code == 0


def test_the_file_is_read_once_for_its_digest(
    cli: Cli, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counted(path: Path) -> str:
        read.append(path)
        return sha256(path.read_bytes()).hexdigest()

    for module in (files, job, own_model):
        monkeypatch.setattr(module, "sha256_of", counted, raising=False)
    changed(weights, config=pretty(OLD))
    assert cli("export-onnx", "--checkpoint", weights, "-o", tmp_path).exit_code == 0
    assert read.count(weights) == 1


def test_the_default_models_own_file_is_still_the_default_model(
    cli: Cli, small: ModelCard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And with --allow-unknown-checkpoint any file is."""
    monkeypatch.setattr(catalog, "find_card", lambda name: small)
    given = Path(shutil.copy(small.folder / small.checkpoint.name, tmp_path / "mine.pth"))
    assert cli("export-onnx", "--checkpoint", given, "-o", tmp_path / "a").exit_code == 0
    assert (tmp_path / "a" / "public" / small.name).is_dir()
    changed(given, epoch=7)
    unknown = ("--checkpoint", given, "--allow-unknown-checkpoint", "-o", tmp_path / "b")
    assert cli("export-onnx", *unknown).exit_code == 0
    assert (tmp_path / "b" / "public" / small.name).is_dir()


def test_the_name_is_the_files_where_the_metadata_have_none(cli: Cli, weights: Path, tmp_path: Path) -> None:
    changed(weights, config=pretty(OLD))
    assert cli("export-onnx", "--checkpoint", weights, "-o", tmp_path).exit_code == 0
    assert (tmp_path / "public" / "my-weights" / "model.yml").is_file()
    assert cli("export-onnx", "--checkpoint", weights, "-o", tmp_path, "--name", "mine").exit_code == 0
    assert (tmp_path / "public" / "mine" / "model.yml").is_file()


def test_a_missing_file_is_an_error(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "--checkpoint", tmp_path / "none.pth", "-o", tmp_path)
    assert done.exit_code == 6
    assert "none.pth: there is no such checkpoint" in done.error


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "has no config in its metadata, and none is given"),
        (7, "has no config in its metadata"),
        ("_base_ = 'x.py'\n" + OLD, "cannot be read as data: it has _base_, another file"),
        ("import os\n" + OLD, "cannot be read as data: line 1 is no assignment to a name"),
        (OLD + "x = open('a')", "has something other than plain values: open('a')"),
        (OLD + "x = 1" + "+1" * 600, "has something other than plain values: 1+1+1+1"),
        (OLD + "x = -0x" + "f" * 5000, "line 20 has a number of more than 64 bits"),
        ("model = dict(", "line 1 is no Python that can be read as data"),
        ("filename = 1", "the text in its metadata is no config"),
    ],
)
def test_without_a_config_that_is_data_the_error_asks_for_it(
    cli: Cli, weights: Path, tmp_path: Path, config: Any, words: str
) -> None:
    changed(weights, config=config)
    done = cli("run", "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 6, done.stderr
    assert words in done.error
    assert "Give the model's config with --config, or the MODEL that the checkpoint is of" in done.error
    assert not (tmp_path / "out").exists()


def test_a_config_of_another_network_is_refused(cli: Cli, weights: Path, tmp_path: Path) -> None:
    changed(weights, config=OLD.replace("'PSPHead'", "'FCNHead'"))
    done = cli("run", "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert f"{weights}: model.decode_head.type: 'FCNHead' is not PSPHead" in done.error


def test_a_class_of_the_users_own_is_not_imported(
    cli: Cli, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    changed(weights, config=OLD.replace("'ResNetV1c'", "'never_imported.Backbone'"))
    done = cli("run", "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 3, done.stderr
    assert "backbone.type: 'never_imported.Backbone' is no plain name" in done.error
    assert "Classes of your own need the config: give it with --config" in done.error


# Hostile texts


MARK = "import pathlib; pathlib.Path({!r}).touch()"


@pytest.fixture
def hostile_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that exists once `own_module` or a module in it has been imported."""
    canary = tmp_path / "was-run"
    (tmp_path / "own_module").mkdir()
    (tmp_path / "own_module" / "__init__.py").write_text(MARK.format(str(canary)))
    monkeypatch.syspath_prepend(tmp_path)
    return canary


@pytest.mark.parametrize("kind", ["own_module", "own_module.Data", "mmdet.Data", "antigravity"])
def test_no_module_is_imported_for_the_name_of_a_data_set(
    cli: Cli, weights: Path, tmp_path: Path, hostile_module: Path, kind: str
) -> None:
    data = f"data = dict(test=dict(type={kind!r}, data_root='d', img_dir='im', ann_dir='an', pipeline=[]))\n"
    imports = "custom_imports = dict(imports=['own_module'], allow_failed_imports=False)\n"
    changed(weights, config=OLD + data + imports)
    done = cli("export-onnx", "--checkpoint", weights, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert f"the data set {kind} cannot be made (there is no such class)" in done.stderr
    assert not hostile_module.exists()


@pytest.mark.parametrize(
    "steps",
    [
        "dict(type='LoadImageFromFile', _scope_='own_module')",
        slow("dict(type='own_module.LoadImageFromFile')"),
        slow("dict(type='LoadImageFromFile'), dict(type='own_module.Resize', scale=64)"),
        slow("dict(type='LoadImageFromFile'), dict(type='Resize', scale=[dict(_scope_='own_module')])"),
    ],
)
@pytest.mark.parametrize("release", ["0.x", slow("1.x")])
def test_no_module_is_imported_for_a_step_of_the_test_pipeline(
    cli: Cli, weights: Path, hostile_module: Path, tmp_path: Path, release: str, steps: str
) -> None:
    data = f"dict(type='A', data_root='d', pipeline=[{steps}, dict(type='PackSegInputs')])"
    place = f"data = dict(test={data})" if release == "0.x" else f"test_dataloader = dict(dataset={data})"
    changed(weights, config=f"{OLD}{place}\n")
    done = cli("run", "--checkpoint", weights, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "; evaluate has no protocol mmseg for this model" in done.stderr
    assert not hostile_module.exists()


def test_no_module_is_imported_for_the_data_preprocessor(
    cli: Cli, weights: Path, small: ModelCard, hostile_module: Path, tmp_path: Path
) -> None:
    text = pretty(new_config(small)).replace(
        "type='SegDataPreProcessor'", "type='SegDataPreProcessor', _scope_='own_module'"
    )
    assert "own_module" in text
    changed(weights, config=text)
    done = cli("run", "--checkpoint", weights, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "the key '_scope_' is not allowed" in done.stderr
    assert not hostile_module.exists()


def test_mmsegmentations_own_scope_is_left_out(weights: Path, small: ModelCard) -> None:
    """mmengine puts it into what comes from a base `mmseg::...`."""
    text = pretty(new_config(small))
    scoped = text.replace("type='LoadImageFromFile'", "type='LoadImageFromFile', _scope_='mmseg'")
    plain, ours = (own_card(None, weights, lambda _, text=text: Metadata(config=text)) for text in (text, scoped))
    assert text != scoped and plain.testing is not None and plain == ours


def test_no_file_or_url_is_read_for_class_names(
    cli: Cli, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmengine.dataset.base_dataset as base

    def read(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file is read")

    monkeypatch.setattr(base, "list_from_file", read)
    for place in ("http://127.0.0.1/names", str(tmp_path / "names.txt")):
        data = f"dict(type='ADE20KDataset', data_root='d', metainfo=dict(classes={place!r}), pipeline=[])"
        changed(weights, config=f"{OLD}test_dataloader = dict(dataset={data})\n")
        done = cli("export-onnx", "--checkpoint", weights, "-o", tmp_path)
        assert done.exit_code == 0, done.stderr
        (path,) = tmp_path.rglob("model.yml")
        annotations = load_card(path).annotations
        assert annotations.dataset == "ADE20KDataset" and annotations.reduce_zero_label
        path.unlink()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        (
            "a = 1\nb = -1.5e-3\nc = 'x' 'y'\nd = None\ne = True",
            {"a": 1, "b": -0.0015, "c": "xy", "d": None, "e": True},
        ),
        ("a = [1, (2, 3), dict(x={'y-z': [], 4: ()})]", {"a": [1, (2, 3), {"x": {"y-z": [], 4: ()}}]}),
        ("a = dict({'x.y': dict({1: 2})})", {"a": {"x.y": {1: 2}}}),
        ("a = range(0, 1000000000)", {"a": range(10**9)}),
        ("a = inf\nb = [-inf, a]\nc = {1, 2}\nd = b'x'", {"a": inf, "b": [-inf, inf], "c": [1, 2], "d": b"x"}),
        ("a = dict(b=1)\nc = [a, a]", {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}),
    ],
)
def test_plain_values_are_read(text: str, values: dict[str, Any]) -> None:
    assert parse_config(text) == values


def test_a_name_stands_for_a_copy() -> None:
    found = parse_config("a = dict(b=[1])\nc = a")
    assert found["a"] is not found["c"] and found["a"]["b"] is not found["c"]["b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = b", "line 1 uses the name b, which is not assigned before"),
        ("a = __import__('os')", "line 1 has something other than plain values"),
        ("a = dict(**b)", "line 1 has a dict with **"),
        ("a = {**b}", "line 1 has a key that is no text or number"),
        ("a = dict([(1, 2)])", "something other than plain values"),
        (f"a = {{0x{'f' * 5000}: 1}}", "line 1 has a number of more than 64 bits"),
        ("a = 1 + 1", "something other than plain values"),
        ("a = f'{b}'", "something other than plain values"),
        ("a = [b for b in c]", "something other than plain values"),
        ("a = lambda: 1", "something other than plain values"),
        ("a = ...", "something other than plain values"),
        ("a.b = 1", "line 1 is no assignment to a name"),
        ("a = b = 1", "line 1 is no assignment to a name"),
        ("a += 1", "line 1 is no assignment to a name"),
        ("\n\nprint(1)", "line 3 is no assignment to a name"),
        ("a = '\0'", "no Python that can be read"),
        ("a = " + "[" * 70 + "]" * 70, "deeper than"),
        ("a = " + "(" * 5000 + ")" * 5000, "no Python that can be read"),
        ("a = " + "-" * 100_000 + "1", ""),
        ("a0 = [1]\n" + "\n".join(f"a{n + 1} = [a{n}, a{n}]" for n in range(60)), "more than 100000 values"),
    ],
    ids=range(20),
)
def test_anything_else_is_no_data(text: str, words: str) -> None:
    with pytest.raises(NotDataError) as caught:
        parse_config(text)
    assert words in str(caught.value)


def test_the_text_of_a_safetensors_file_serves_too(cli: Cli, weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = torch.load(weights, weights_only=True)["state_dict"]
    path = tmp_path / "mine.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata={"config": pretty(OLD)})
    done = cli("export-onnx", "--checkpoint", path, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "public" / "mine" / "mine.onnx").is_file()


@pytest.mark.parametrize("with_config", [False, True])
def test_numbers_too_long_to_print_are_no_colours(
    cli: Cli, weights: Path, write: Callable[..., Path], tmp_path: Path, with_config: bool
) -> None:
    changed(weights, config=pretty(OLD), PALETTE=[[10**5000, 1, 2]] * 5)
    config = ("--config", write(OLD)) if with_config else ()
    done = cli("export-onnx", *config, "--checkpoint", weights, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "has no palette for its 5 classes" in done.stderr


ODD = [None, 7, -1.5, "x", [], {}, [[]], {"type": 7}, [None], {"mean": [1]}, "a" * 5000]


PLACES = ["model", "crop_size", "data", "img_norm_cfg", "model.decode_head", "data.test", "data.test.pipeline"]


@pytest.mark.parametrize("place", PLACES)
def test_odd_values_give_a_card_or_a_message(small: ModelCard, weights: Path, place: str) -> None:
    *path, last = place.split(".")
    good = parse_config(pretty(OLD + OF_TEST))
    for odd in ODD:
        values: Any = deepcopy(good)
        inner = values
        for key in path:
            inner = inner[key]
        inner[last] = odd
        text = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        try:
            own_card(None, weights, lambda _, text=text: Metadata(config=text))
        except ConvertError as error:
            assert len(str(error)) < 3000 and str(error).isprintable()
