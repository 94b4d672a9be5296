"""`bundle`: the archive is verified, complete and always the same bytes, and describes its contents."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import manifests
import pytest
import torch
import voc
import yaml
from bundles import GOLDEN, IRS, LICENCE, SELF_TEST, sha256, unpacked
from conftest import Cli, write_small_card

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import shipped

TEXTS = ["manifest.json", "model.yml", "provenance.json", "report.html", "sbom.cdx.json"]


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


# The archive


def test_it_holds_the_irs_and_the_files_that_describe_them(small_bundle: Mapping[str, bytes], small_run: Path) -> None:
    assert list(small_bundle) == sorted([*IRS, *SELF_TEST, *TEXTS, LICENCE])
    for name in [*IRS, *GOLDEN, "manifest.json", "report.html"]:
        assert small_bundle[name] == (small_run / "public" / "small-standin" / name).read_bytes()
    assert small_bundle[LICENCE] == (shipped("licenses") / LICENCE).read_bytes()


def test_the_same_files_give_the_same_archive_from_any_folder(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["bundle", small.folder, "--output-dir"]
    first = cli(*command, workspace, "-o", tmp_path / "first.tar.gz", "--json")
    other = shutil.copytree(workspace, tmp_path / "other")
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    second = cli(*command, other, "--json")
    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr + second.stderr
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "small-standin.tar.gz").read_bytes()
    with tarfile.open("first.tar.gz") as opened:
        told = {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode, one.type) for one in opened}
        names = [one.name for one in opened]
    assert told == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}
    assert names == sorted(names)
    assert Path("first.tar.gz").read_bytes()[3:8] == bytes(5)  # gzip: no flags, so no name; and no time


def test_json_lists_what_was_packed(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "m.tar.gz"
    result = cli("bundle", small.folder, "--output-dir", workspace, "-o", target, "--json", "--progress", "none")
    packed = target.read_bytes()
    found = unpacked(target)
    assert result.json() == {
        "path": str(target),
        "sha256": sha256(packed),
        "size": len(packed),
        "files": [{"file": name, "sha256": sha256(data), "size": len(data)} for name, data in found.items()],
    }


def test_the_card_in_it_is_the_one_that_was_converted(
    small_bundle: Mapping[str, bytes], small: ModelCard, tmp_path: Path
) -> None:
    (tmp_path / "model.yml").write_bytes(small_bundle["model.yml"])
    assert load_card(tmp_path / "model.yml").model_dump() == small.model_dump()


def test_a_verification_of_an_earlier_release_gives_no_self_test(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    with manifests.changed(folder) as data:
        del data["stages"]["verify"]["result"]["tolerances"]
    command = ["bundle", small.folder, "--output-dir", workspace, "-o", tmp_path / "m.tar.gz"]
    result = cli(*command)
    assert result.exit_code == 0, result.stderr
    assert "the bundle has no self-test" in result.stderr
    assert sorted(unpacked(tmp_path / "m.tar.gz")) == sorted([*IRS, *TEXTS, LICENCE])
    assert cli("verify", small.folder, "-o", workspace, "--force").exit_code == 0
    again = cli(*command)
    assert "no self-test" not in again.stderr
    assert set(SELF_TEST) <= set(unpacked(tmp_path / "m.tar.gz"))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_changed_golden_case_is_not_packed(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"changed")
    told = refused(cli, small, workspace, 11)
    assert f"{folder / name}: is missing, or not the one in manifest.json. Run `pspnet-convert verify` again" in told


# What is not packed


def refused(cli: Cli, small: ModelCard, workspace: Path, code: int, *options: str) -> str:
    target = workspace / "refused.tar.gz"
    result = cli("bundle", small.folder, "--output-dir", workspace, "-o", target, *options)
    assert result.exit_code == code, result.stderr
    assert not target.exists()
    return result.error


def let_out(cli: Cli, small: ModelCard, workspace: Path) -> dict[str, bytes]:
    target = workspace / "unverified.tar.gz"
    result = cli("bundle", small.folder, "--output-dir", workspace, "-o", target, "--allow-unverified")
    assert result.exit_code == 0, result.stderr
    return unpacked(target)


def test_unverified_models_are_packed_only_on_request(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    with manifests.changed(folder) as data:
        del data["stages"]["verify"]
    assert "The converted models were not compared" in refused(cli, small, workspace, 20)
    assert b"Not verified" in let_out(cli, small, workspace)["report.html"]


@pytest.mark.parametrize(("verdict", "words"), [("mismatch", "Do not ship it"), ("inconclusive", "prove little")])
def test_models_that_did_not_pass_are_packed_only_on_request(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, verdict: str, words: str
) -> None:
    with manifests.changed(folder) as data:
        data["stages"]["verify"]["result"]["verdict"] = verdict
    assert words in refused(cli, small, workspace, 20)
    assert sorted(let_out(cli, small, workspace)) == sorted([*IRS, *SELF_TEST, *TEXTS, LICENCE])


def test_a_verification_of_other_files_counts_for_nothing(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    with manifests.changed(folder) as data:
        (seen,) = [one for one in data["stages"]["verify"]["inputs"]["models"] if one["file"] == IRS[1]]
        seen["sha256"] = "0" * 64
    assert f"Not the files that were verified: {IRS[1]}" in refused(cli, small, workspace, 20)


@pytest.mark.parametrize("damage", ["changed", "deleted"])
@pytest.mark.parametrize("option", [[], ["--allow-unverified"]])
def test_an_ir_that_is_not_the_manifests_is_never_packed(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, damage: str, option: list[str]
) -> None:
    if damage == "deleted":
        (folder / IRS[0]).unlink()
    else:
        with (folder / IRS[0]).open("ab") as file:
            file.write(b"\0")
    told = refused(cli, small, workspace, 11, *option)
    assert f"{folder / IRS[0]}: is missing, or not the one in manifest.json" in told


@pytest.fixture
def with_int8(quantized: Path, tmp_path: Path) -> Path:
    """A copy of the output folder of the small model with its INT8 IR, to break."""
    return shutil.copytree(quantized, tmp_path / "with_int8")


def test_an_int8_ir_is_packed_with_the_others(cli: Cli, small: ModelCard, with_int8: Path) -> None:
    target = with_int8 / "m.tar.gz"
    result = cli("bundle", small.folder, "--output-dir", with_int8, "-o", target)
    assert result.exit_code == 0, result.stderr
    int8 = ["INT8/small-standin.bin", "INT8/small-standin.xml"]
    assert sorted(unpacked(target)) == sorted([*IRS, *int8, *SELF_TEST, *TEXTS, LICENCE])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda stages: stages.pop("verify-int8"),
            "The present INT8 IR was not compared with the present FP32 IR. Run `pspnet-convert quantize`,",
        ),
        (lambda stages: stages["verify-int8"]["inputs"]["models"][0].update(sha256="0" * 64), "was not compared"),
        (
            lambda stages: stages["verify-int8"]["result"].update(verdict="mismatch"),
            "did not pass its verification. Run `pspnet-convert quantize` with better pictures,",
        ),
        (
            lambda stages: stages["verify-int8"]["result"].update(verdict="inconclusive"),
            "did not pass its verification",
        ),
        (lambda stages: stages.pop("verify"), "The converted models were not compared"),
    ],
)
def test_an_unverified_int8_ir_stops_the_bundle(
    cli: Cli, small: ModelCard, with_int8: Path, change: Callable[[Any], object], words: str
) -> None:
    with manifests.changed(with_int8 / "public" / "small-standin") as data:
        change(data["stages"])
    assert words in refused(cli, small, with_int8, 20)


@pytest.mark.slow
def test_an_int8_ir_of_an_earlier_checkpoint_is_not_verified(
    cli: Cli, small: ModelCard, with_int8: Path, tmp_path: Path
) -> None:
    content = torch.load(small.folder / small.checkpoint.name, weights_only=True)
    content["state_dict"]["decode_head.conv_seg.weight"] *= 1.1
    torch.save(content, tmp_path / "other.pth")
    given = ["--checkpoint", tmp_path / "other.pth", "--allow-unknown-checkpoint"]
    done = cli("run", small.folder, "-o", with_int8, *given, "--precision", "FP16")
    assert done.exit_code == 0, done.stderr
    assert "The INT8 IR was made from an FP32 IR that was not verified" in refused(cli, small, with_int8, 20)
    page = (with_int8 / "public" / "small-standin" / "report.html").read_text(encoding="utf-8")
    assert 'id="int8"' not in page  # the images that it was compared on have other answers now


@pytest.mark.slow
def test_a_card_that_has_changed_since_the_conversion_is_not_packed(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    data = small.model_dump(mode="json", exclude_none=True)
    data["classes"][1]["name"] = "renamed"
    (tmp_path / "card").mkdir()
    renamed = tmp_path / "card" / "model.yml"
    renamed.write_text(yaml.safe_dump(data), encoding="utf-8")
    refused_too = cli("verify", renamed, "-o", workspace)
    assert refused_too.exit_code == 11
    assert (
        "is of an earlier conversion. It was converted with another card. Run `pspnet-convert run` again"
        in refused_too.error
    )
    # `evaluate` needs no IR here, and from then on the manifest has the new card.
    dataset = ["--dataset", voc.write(tmp_path / "voc", small, [(72, 64)]), "--backend", "PyTorch"]
    shutil.copy(small.folder / small.checkpoint.name, renamed.parent)
    measured = cli("evaluate", renamed, "-o", workspace, *dataset)
    assert measured.exit_code == 0, measured.stderr
    told = refused(cli, small, workspace, 11, "--allow-unverified")
    assert "manifest.json: its files were converted with another card. Run `pspnet-convert run` again" in told
    assert cli("run", renamed, "-o", workspace).exit_code == 0
    assert b"renamed" in let_out(cli, small, workspace)["model.yml"]


def test_without_an_ir_there_is_nothing_to_pack(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    with manifests.changed(folder) as data:
        del data["stages"]["to-ir"]
    assert "has no IR. Run `pspnet-convert run` first" in refused(cli, small, workspace, 11, "--allow-unverified")


def test_without_the_checkpoints_digest_nothing_is_packed(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    """As after `to-ir` and `verify` of an ONNX that another tool made."""
    with manifests.changed(folder) as data:
        del data["stages"]["export-onnx"]
    told = refused(cli, small, workspace, 11, "--allow-unverified")
    assert "has no export-onnx, so the checkpoint of its IRs is not known. Run `pspnet-convert run` first" in told


def test_half_an_ir_is_not_packed(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    with manifests.changed(folder) as data:
        outputs = data["stages"]["to-ir"]["outputs"]
        data["stages"]["to-ir"]["outputs"] = [one for one in outputs if one["file"] != IRS[2]]
    assert f"has {IRS[3]}, but not the other file of this IR. Run `pspnet-convert run` again" in refused(
        cli, small, workspace, 11
    )


def test_a_damaged_int8_ir_is_to_be_quantized_again(cli: Cli, small: ModelCard, with_int8: Path) -> None:
    with (with_int8 / "public" / "small-standin" / "INT8" / "small-standin.xml").open("a") as file:
        file.write(" ")
    assert "not the one in manifest.json. Run `pspnet-convert quantize` again" in refused(cli, small, with_int8, 11)


@pytest.mark.parametrize("builder", ["not a uri", "ci.example/builder", "https:", "https://ci.example/a b"])
def test_a_builder_that_is_no_uri_is_a_usage_error(cli: Cli, small: ModelCard, workspace: Path, builder: str) -> None:
    result = cli("bundle", small.folder, "--output-dir", workspace, "--builder-id", builder)
    assert result.exit_code == 2
    assert "is no URI, such as" in result.stderr


def test_a_pipe_is_not_replaced(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    common = [small.folder, "-o"]
    for command in (
        ["bundle", small.folder, "--output-dir", workspace, "-o", tmp_path / "pipe"],
        ["verify", *common, workspace, "--junit", tmp_path / "pipe"],
        ["verify", *common, workspace, "--junit", "/dev/pspnet-convert.xml"],  # not /dev/stdout: a fault would break it
    ):
        result = cli(*command)
        assert result.exit_code == 12, result.stderr
        assert "is not a regular file, and is not replaced. Give the path of a file" in result.error
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.slow
def test_a_pipe_is_not_replaced_by_a_plot(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = cli("benchmark", small.folder, "-o", workspace, "--rounds", 1, "--plot", tmp_path / "pipe")
    assert result.exit_code == 12, result.stderr
    assert "is not a regular file, and is not replaced. Give the path of a file" in result.error
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm here")
def test_a_file_system_under_dev_can_be_written(cli: Cli, small: ModelCard, workspace: Path) -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        target = Path(folder) / "m.tar.gz"
        result = cli("bundle", small.folder, "--output-dir", workspace, "-o", target)
        assert result.exit_code == 0, result.stderr
        assert sorted(unpacked(target)) == sorted([*IRS, *SELF_TEST, *TEXTS, LICENCE])


def test_a_missing_licence_text_is_asked_for(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    own = {"name": "Own", "file": "OWN.txt"}
    card = write_small_card(tmp_path / "card", name="small-standin", license=own)
    with manifests.changed(folder) as data:
        data["model"]["license"] = own
    command = ["bundle", card, "--output-dir", workspace, "-o", tmp_path / "own.tar.gz"]
    result = cli(*command)
    assert result.exit_code == 11
    assert f"OWN.txt: the card's licence text is not found. Put it next to {card}" in result.error
    (card.parent / "OWN.txt").write_text("Do as you like.")
    assert cli(*command).exit_code == 0
    assert unpacked(tmp_path / "own.tar.gz")["OWN.txt"] == b"Do as you like."


def test_a_place_that_cannot_be_written_is_an_error(cli: Cli, small: ModelCard, workspace: Path) -> None:
    (workspace / "file").touch()
    result = cli("bundle", small.folder, "--output-dir", workspace, "-o", workspace / "file" / "m.tar.gz")
    assert result.exit_code == 12
    assert "cannot be written" in result.error
