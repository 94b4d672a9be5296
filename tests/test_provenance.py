"""The provenance has the facts of the manifest in the fields of in-toto and SLSA, and no time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import manifests
import pytest
from bundles import sha256, unpacked
from conftest import Cli
from packageurl import PackageURL

from pspnet_convert import __version__
from pspnet_convert.cards.card import ModelCard


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def statement(contents: Mapping[str, bytes]) -> dict[str, Any]:
    return json.loads(contents["provenance.json"])


def dependencies(predicate: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one.pop("name"): one for one in predicate["buildDefinition"]["resolvedDependencies"]}


def test_the_provenance_is_an_in_toto_statement_on_the_bundles_files(
    small_bundle: Mapping[str, bytes], small: ModelCard, small_run: Path
) -> None:
    told = statement(small_bundle)
    assert list(told) == ["_type", "subject", "predicateType", "predicate"]
    assert (told["_type"], told["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert {one["name"]: one["digest"] for one in told["subject"]} == {
        name: {"sha256": sha256(data)} for name, data in small_bundle.items() if name != "provenance.json"
    }
    stages = manifests.read(small_run / "public" / "small-standin")["stages"]
    definition = told["predicate"]["buildDefinition"]
    assert set(definition) == {"buildType", "externalParameters", "resolvedDependencies"}
    assert definition["buildType"] == f"pkg:pypi/pspnet-convert@{__version__}"
    assert definition["externalParameters"] == {
        "model": small.name,
        "export-onnx": stages["export-onnx"]["options"],
        "to-ir": stages["to-ir"]["options"],
    }
    found = dependencies(told["predicate"])
    assert found.pop(small.checkpoint.name) == {"digest": {"sha256": small.checkpoint.sha256}}
    assert found.pop("model.yml") == {"digest": {"sha256": sha256(small_bundle["model.yml"])}}
    versions = {name: PackageURL.from_string(one["uri"]).version for name, one in found.items()}
    assert versions == {**stages["export-onnx"]["tools"], **stages["to-ir"]["tools"]}
    assert told["predicate"]["runDetails"] == {"builder": {"id": f"pkg:pypi/pspnet-convert@{__version__}"}}


def test_a_tool_of_two_versions_is_there_twice(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    """If stages ran in two environments."""
    with manifests.changed(folder) as data:
        own = data["stages"]["export-onnx"]["tools"]["numpy"]
        data["stages"]["to-ir"]["tools"]["numpy"] = "99.0"
    target = workspace / "m.tar.gz"
    done = cli("bundle", small.folder, "--output-dir", workspace, "-o", target)
    assert done.exit_code == 0, done.stderr
    used = statement(unpacked(target))["predicate"]["buildDefinition"]["resolvedDependencies"]
    versions = {f"pkg:pypi/numpy@{version}" for version in (own, "99.0")}
    assert {one.get("uri") for one in used if one["name"] == "numpy"} == versions
    components = json.loads(unpacked(target)["sbom.cdx.json"])["components"]
    assert {one.get("purl") for one in components if one["name"] == "numpy"} == versions


@pytest.mark.parametrize(
    ("source", "location"),
    [("https://mirror.example/m.pth", True), ("https://mirror.example/m.pth?...", None), ("folder", None)],
)
def test_it_has_the_builder_the_checkpoints_address_and_no_time(
    cli: Cli,
    small: ModelCard,
    workspace: Path,
    folder: Path,
    small_bundle: Mapping[str, bytes],
    source: str,
    location: bool | None,
) -> None:
    with manifests.changed(folder) as data:
        data["stages"]["download"]["result"]["source"] = source
        for stage in data["stages"].values():
            stage.update(finished="2001-02-03T04:05:06+00:00", seconds=1.5)
    target = workspace / "m.tar.gz"
    command = ["bundle", small.folder, "--output-dir", workspace, "-o", target]
    assert cli(*command, "--builder-id", "https://ci.example/1").exit_code == 0
    told, before = statement(unpacked(target)), statement(small_bundle)
    before["predicate"]["runDetails"]["builder"]["id"] = "https://ci.example/1"
    if location:
        (checkpoint, *_) = before["predicate"]["buildDefinition"]["resolvedDependencies"]
        checkpoint["downloadLocation"] = source
    assert told["predicate"] == before["predicate"]
    digests = [{one["name"]: one["digest"] for one in given["subject"]} for given in (told, before)]
    assert {name for name in digests[0] if digests[0][name] != digests[1][name]} == {"manifest.json", "report.html"}
    assert unpacked(target)["sbom.cdx.json"] == small_bundle["sbom.cdx.json"]


def test_a_checkpoint_that_was_not_downloaded_has_no_address(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    with manifests.changed(folder) as data:
        data["stages"]["download"]["result"]["source"] = "https://mirror.example/m.pth"
        data["stages"]["export-onnx"]["inputs"]["checkpoint"]["sha256"] = "0" * 64
    target = workspace / "m.tar.gz"
    assert cli("bundle", small.folder, "--output-dir", workspace, "-o", target).exit_code == 0
    found = dependencies(statement(unpacked(target))["predicate"])
    assert found[small.checkpoint.name] == {"digest": {"sha256": "0" * 64}}


def test_int8_depends_on_the_pictures_that_it_was_calibrated_with(
    cli: Cli, small: ModelCard, quantized: Path, tmp_path: Path
) -> None:
    target = tmp_path / "m.tar.gz"
    assert cli("bundle", small.folder, "--output-dir", quantized, "-o", target).exit_code == 0
    told = statement(unpacked(target))
    stage = manifests.read(quantized / "public" / small.name)["stages"]["quantize"]
    made = {file["file"]: {"sha256": file["sha256"]} for file in stage["outputs"]}
    assert made.items() <= {one["name"]: one["digest"] for one in told["subject"]}.items()
    assert told["predicate"]["buildDefinition"]["externalParameters"]["quantize"] == stage["options"]
    found = dependencies(told["predicate"])
    assert stage["inputs"]["images"]
    for image in stage["inputs"]["images"]:
        assert found[image["file"]] == {"digest": {"sha256": image["sha256"]}}
    assert found["nncf"] == {"uri": f"pkg:pypi/nncf@{stage['tools']['nncf']}"}
