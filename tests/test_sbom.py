"""The SBOM is valid CycloneDX, and lists what the model was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import manifests
import pytest
from bundles import IRS, sha256, unpacked
from conftest import Cli
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pspnet_convert.cards.card import ModelCard


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def test_the_sbom_is_valid_cyclonedx(small_bundle: Mapping[str, bytes]) -> None:
    text = small_bundle["sbom.cdx.json"].decode()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    broken = json.loads(text)
    broken["components"][0]["hashes"] = "none"
    assert validator.validate_str(json.dumps(broken)) is not None


def test_the_sbom_lists_files_checkpoint_and_tools(
    small_bundle: Mapping[str, bytes], small: ModelCard, small_run: Path
) -> None:
    document = json.loads(small_bundle["sbom.cdx.json"])
    assert "timestamp" not in document["metadata"]
    model = document["metadata"]["component"]
    assert (model["name"], model["type"]) == (small.name, "machine-learning-model")
    assert {one["name"]: one["hashes"] for one in model["components"]} == {
        name: [{"alg": "SHA-256", "content": sha256(small_bundle[name])}] for name in IRS
    }
    components = {one["name"]: one for one in document["components"]}
    checkpoint = components.pop(small.checkpoint.name)
    assert checkpoint["hashes"] == [{"alg": "SHA-256", "content": small.checkpoint.sha256}]
    assert checkpoint["licenses"][0]["license"]["id"] == "Apache-2.0"
    stages = manifests.read(small_run / "public" / "small-standin")["stages"]
    tools = {**stages["export-onnx"]["tools"], **stages["to-ir"]["tools"]}
    assert {name: one["version"] for name, one in components.items()} == tools
    uses = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert set(uses[small.name]) == {one["bom-ref"] for one in document["components"]}


def test_a_licence_that_spdx_does_not_know_is_listed_by_its_name(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    with manifests.changed(folder) as data:
        data["model"]["license"] = {"name": "CC-BY-4.0 (trained on digits)", "url": "https://licence.example/"}
    result = cli("bundle", small.folder, "--output-dir", workspace, "-o", workspace / "m.tar.gz")
    assert result.exit_code == 0, result.stderr
    document = json.loads(unpacked(workspace / "m.tar.gz")["sbom.cdx.json"])
    told = {"license": {"name": "CC-BY-4.0 (trained on digits)", "url": "https://licence.example/"}}
    assert document["metadata"]["component"]["licenses"] == [told]


def test_an_ir_of_another_checkpoint_or_of_no_stated_licence_has_none(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    def licences() -> object:
        done = cli("bundle", small.folder, "--output-dir", workspace, "-o", workspace / "m.tar.gz")
        assert done.exit_code == 0, done.stderr
        return json.loads(unpacked(workspace / "m.tar.gz")["sbom.cdx.json"])["metadata"]["component"].get("licenses")

    with manifests.changed(folder) as data:
        data["stages"]["export-onnx"]["inputs"]["checkpoint"]["is_the_cards"] = False
    assert licences() is None
    with manifests.changed(folder) as data:
        data["stages"]["export-onnx"]["inputs"]["checkpoint"]["is_the_cards"] = True
    assert licences() is not None
    with manifests.changed(folder) as data:
        data["model"]["license"] = {"name": "not stated"}
    assert licences() is None


def test_another_checkpoint_than_the_cards_has_neither_its_licence_nor_its_sources(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    with manifests.changed(folder) as data:
        data["model"]["files"][0]["sources"] = ["https://mirror.example/m.pth"]
    packed = []
    for is_the_cards in (True, False):
        with manifests.changed(folder) as data:
            data["stages"]["export-onnx"]["inputs"]["checkpoint"]["is_the_cards"] = is_the_cards
        assert cli("bundle", small.folder, "--output-dir", workspace, "-o", workspace / "m.tar.gz").exit_code == 0
        components = json.loads(unpacked(workspace / "m.tar.gz")["sbom.cdx.json"])["components"]
        packed.append(next(one for one in components if one["name"] == small.checkpoint.name))
    assert packed[0]["externalReferences"] == [{"type": "distribution", "url": "https://mirror.example/m.pth"}]
    assert set(packed[0]) - set(packed[1]) == {"externalReferences", "licenses"}
