"""This tool describes a model as Open Model Zoo's tools do, which come with openvino-dev."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, needs_mo

from pspnet_convert.cards.catalog import find_card


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("omz_info_dumper")), "--name", "pspnet-pytorch"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (model,) = json.loads(done.stdout)
    return model


@needs_mo
def test_the_keys_are_those_of_omz_info_dumper_and_so_are_the_values(cli: Cli, theirs: dict[str, Any]) -> None:
    result = cli("info", "--omz-json")
    assert result.exit_code == 0, result.stderr
    (ours,) = result.json()
    assert list(ours) == list(theirs)
    # Their model has another description, and a file for their accuracy checker.
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert differing == {"description", "accuracy_config", "model_config"}
    assert {key: type(value) for key, value in ours.items() if key != "accuracy_config"} == {
        key: type(value) for key, value in theirs.items() if key != "accuracy_config"
    }


@pytest.mark.parametrize("model", ["pspnet-pytorch", "demo"])
def test_it_names_the_card_and_the_folder_of_the_irs(cli: Cli, model: str) -> None:
    (told,) = cli("info", model, "--omz-json").json()
    card = find_card(model)
    assert Path(told["model_config"]).samefile(card.path)
    assert told["subdirectory"] == f"public/{model}"
    assert told["input_info"] == [{"name": card.input.name, "shape": list(card.input.shape), "layout": "NCHW"}]


def test_a_card_that_is_derived_from_a_config_has_no_file(cli: Cli) -> None:
    (told,) = cli("info", "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024", "--omz-json").json()
    assert told["model_config"] is None
