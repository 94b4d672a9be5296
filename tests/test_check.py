"""`check`: what is wrong with a bundle is found, whatever its digests say; and the signature of a bundle."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import GOLDEN, IRS, sha256, unpacked
from conftest import Cli, Result, call
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from PIL import Image

from pspnet_convert.cards.card import ModelCard

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys, `own` and `other`, in the form that openssl writes."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        key = Ed25519PrivateKey.generate()
        (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub.pem").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def signed(small: ModelCard, small_run: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("signed") / "small.tar.gz"
    command = ["bundle", small.folder, "--output-dir", small_run, "-o", target, "--sign", keys / "own.pem"]
    done = call(*command)
    assert done.exit_code == 0, done.stderr
    return target


@pytest.fixture
def bundle(small_bundle: Mapping[str, bytes], tmp_path: Path) -> Path:
    """The small model's bundle as a folder, to break; not signed."""
    return written(small_bundle, tmp_path / "bundle")


def written(contents: Mapping[str, bytes], folder: Path) -> Path:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_fit(folder: Path) -> None:
    """Write the digests of the files as they are now into manifest and provenance, as a forger would."""

    def corrected(data: Any) -> Any:
        if isinstance(data, list):
            return [corrected(one) for one in data]
        if not isinstance(data, dict):
            return data
        name = data.get("file", data.get("name"))
        if not isinstance(name, str) or not (folder / name).is_file():
            return {key: corrected(value) for key, value in data.items()}
        content = (folder / name).read_bytes()
        if "digest" in data:
            return {**data, "digest": {"sha256": sha256(content)}}
        return {**data, "sha256": sha256(content), "size": len(content)} if "sha256" in data else data

    for record in ("manifest.json", "provenance.json"):
        (folder / record).write_text(json.dumps(corrected(json.loads((folder / record).read_bytes()))))


def packed(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, "small-standin")
    return target


# A right bundle


def test_a_right_bundle_passes_as_an_archive_and_as_a_folder(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    for given in (bundle, packed(bundle, tmp_path / "m.tar.gz")):
        result = cli("check", given)
        assert result.exit_code == 0, result.stderr
        assert "FP32/small-standin.xml at f32" in result.stdout
        assert "FP16/small-standin.xml at f32" in result.stdout
        assert "signature: not signed" in result.stdout
        assert "verdict: pass" in result.stdout


def test_json_has_each_ir_at_each_precision(cli: Cli, bundle: Path) -> None:
    found = cli("check", bundle, "--json").json()
    assert (found["verdict"], found["model"], found["signature"]) == ("pass", "small-standin", "not signed")
    assert found["files"] == sum(path.is_file() for path in bundle.rglob("*"))
    rows = found["self_test"]["results"]
    assert {row["file"] for row in rows if row["computed_in"] == "f32"} == {IRS[1], IRS[3]}
    assert {row["file"] for row in rows if row["is_default"]} == {IRS[1], IRS[3]}
    assert all(row["pixels"] == 72 * 64 for row in rows)


def test_it_needs_no_pytorch_and_no_mmsegmentation(bundle: Path, tmp_path: Path) -> None:
    for name in ("torch", "mmseg", "mmengine", "mmcv", "onnx", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('there is no {name} here')")
    done = subprocess.run(
        [sys.executable, "-m", "pspnet_convert", "check", str(bundle)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "verdict: pass" in done.stdout


# What is found by digests


@pytest.mark.parametrize("name", [*IRS, *GOLDEN, "report.html", "selftest.py", "selftest.json", "model.yml"])
def test_one_changed_byte_in_any_file_is_found(cli: Cli, bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    result = cli("check", bundle)
    assert result.exit_code == 5
    assert f"{bundle / name}: is not the file in provenance.json. Do not use it" in result.error


def test_a_changed_manifest_is_found_in_the_provenance(cli: Cli, bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"verdict": "pass"', '"verdict":  "pass"', 1))
    assert f"{path}: is not the file in provenance.json" in cli("check", bundle).error


def test_a_file_more_and_a_file_less_are_found(cli: Cli, bundle: Path) -> None:
    (bundle / "FP32" / "extra.xml").write_text("<net/>")
    result = cli("check", bundle)
    assert (result.exit_code, "extra.xml: is not in provenance.json" in result.error) == (5, True)
    (bundle / "FP32" / "extra.xml").unlink()
    (bundle / IRS[0]).unlink()
    result = cli("check", bundle)
    assert (result.exit_code, f"{IRS[0]}: is missing" in result.error) == (5, True)


def test_a_manifest_of_other_files_is_found(cli: Cli, bundle: Path) -> None:
    """With a provenance that is made to fit it."""
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace(sha256((bundle / IRS[2]).read_bytes()), "0" * 64))
    provenance = json.loads((bundle / "provenance.json").read_bytes())
    for one in provenance["subject"]:
        if one["name"] == "manifest.json":
            one["digest"]["sha256"] = sha256(path.read_bytes())
    (bundle / "provenance.json").write_text(json.dumps(provenance))
    result = cli("check", bundle)
    assert (result.exit_code, f"{IRS[2]}: is not the file in manifest.json" in result.error) == (5, True)


def test_a_bundle_of_unverified_models_is_refused(cli: Cli, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["stages"]["verify"]["result"]["verdict"] = "inconclusive"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    make_fit(bundle)
    result = cli("check", bundle)
    assert (result.exit_code, "It was packed with --allow-unverified" in result.error) == (20, True)


# What is found by the self-test, with digests that fit


def test_an_ir_of_another_model_is_found(
    cli: Cli, bundle: Path, small: ModelCard, small_run: Path, tmp_path: Path
) -> None:
    """It has another checkpoint, with the same shapes."""
    import torch

    content = torch.load(small.folder / small.checkpoint.name, weights_only=True)
    content["state_dict"]["decode_head.conv_seg.weight"] *= -1
    torch.save(content, tmp_path / "other.pth")
    given = ["--checkpoint", tmp_path / "other.pth", "--allow-unknown-checkpoint", "--precision", "FP32"]
    assert cli("run", small.folder, "-o", tmp_path / "other", *given).exit_code == 0
    for half in IRS[2:]:
        shutil.copy(tmp_path / "other" / "public" / "small-standin" / half, bundle / half)
    make_fit(bundle)
    result = cli("check", bundle)
    assert result.exit_code == 9, result.stderr
    assert "FP32/small-standin.xml is wrong at f32 on CPU" in result.error
    assert "pixels differ unexplained" in result.error
    assert "FP16/small-standin.xml at f32: pass" in result.stdout


def test_a_label_map_that_is_wrong_in_one_per_cent_of_its_pixels_is_found(cli: Cli, bundle: Path) -> None:
    path = bundle / "verification" / "sheet.reference.png"
    with Image.open(path) as picture:
        labels, palette = np.array(picture), picture.getpalette()
    wrong = np.random.default_rng(0).choice(labels.size, labels.size // 100, replace=False)
    labels.flat[wrong] = (labels.flat[wrong] + 1) % 5
    spoilt = Image.fromarray(labels)
    spoilt.putpalette(palette)
    spoilt.save(path)
    make_fit(bundle)
    result = cli("check", bundle, "--json")
    assert result.exit_code == 9, result.stderr
    rows = [row for row in result.json()["self_test"]["results"] if row["computed_in"] == "f32"]
    for row in rows:
        assert labels.size // 100 - 2 <= row["unexplained"] <= labels.size // 100 + 2
        (place,) = row["places"]
        left, top, right, bottom = place["box"]
        assert all(left <= one["x"] <= right and top <= one["y"] <= bottom for one in place["first"])


def test_golden_cases_of_one_class_prove_nothing(cli: Cli, bundle: Path) -> None:
    path = bundle / "verification" / "sheet.reference.png"
    with Image.open(path) as picture:
        Image.fromarray(np.zeros_like(np.asarray(picture))).save(path)
    margins = bundle / "verification" / "sheet.margin.png"
    Image.fromarray(np.zeros((72, 64), np.uint8)).save(margins)  # each pixel may differ
    make_fit(bundle)
    settings = json.loads((bundle / "selftest.json").read_bytes())
    for tolerance in settings["tolerances"].values():
        tolerance["spread"] = None
    (bundle / "selftest.json").write_text(json.dumps(settings))
    make_fit(bundle)
    result = cli("check", bundle)
    assert result.exit_code == 10, result.stderr
    assert "one class everywhere, so that a wrong IR could agree with it" in result.error


def test_a_bundle_without_golden_cases_proves_nothing(cli: Cli, bundle: Path) -> None:
    for name in ("selftest.py", "selftest.json", *GOLDEN):
        (bundle / name).unlink()
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    del manifest["stages"]["verify"]["result"]["tolerances"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    provenance = json.loads((bundle / "provenance.json").read_bytes())
    provenance["subject"] = [one for one in provenance["subject"] if (bundle / one["name"]).is_file()]
    (bundle / "provenance.json").write_text(json.dumps(provenance))
    make_fit(bundle)
    result = cli("check", bundle)
    assert (result.exit_code, "has no selftest.json" in result.error) == (10, True)


def test_the_bundles_own_program_is_not_run(cli: Cli, bundle: Path) -> None:
    (bundle / "selftest.py").write_text("raise SystemExit('it ran')")
    make_fit(bundle)
    assert cli("check", bundle).exit_code == 0


# Hostile and damaged bundles


def hostile(folder: Path, add: Callable[[tarfile.TarFile], None]) -> Path:
    target = folder / "hostile.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        add(archive)
    return target


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[tarfile.TarFile], None]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
    return lambda archive: archive.addfile(member, io.BytesIO(b"text"))


@pytest.mark.parametrize(
    "add",
    [
        entry("../outside"),
        entry("m/../../outside"),
        entry("/tmp/pspnet-convert-outside"),
        entry("m/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("m/link", tarfile.LNKTYPE, "m/other"),
        entry("m/pipe", tarfile.FIFOTYPE),
    ],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    cli: Cli, tmp_path: Path, add: Callable[[tarfile.TarFile], None]
) -> None:
    result = cli("check", hostile(tmp_path, add))
    assert result.exit_code == 11
    assert "is a link or a special file, or leads out of the folder" in result.error
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/pspnet-convert-outside").exists()


def test_an_archive_with_a_file_twice_is_refused(cli: Cli, tmp_path: Path) -> None:
    def add(archive: tarfile.TarFile) -> None:
        entry("m/provenance.json")(archive)
        entry("m/provenance.json")(archive)

    result = cli("check", hostile(tmp_path, add))
    assert (result.exit_code, "has m/provenance.json twice" in result.error) == (11, True)


def test_a_link_in_a_folder_is_refused(cli: Cli, bundle: Path) -> None:
    (bundle / IRS[0]).rename(bundle.parent / "elsewhere.bin")
    (bundle / IRS[0]).symlink_to(bundle.parent / "elsewhere.bin")
    result = cli("check", bundle)
    assert (result.exit_code, f"{IRS[0]}: is a link or a special file" in result.error) == (11, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(b"no archive"), "cannot be unpacked"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "cannot be unpacked"),
        (lambda path: path.unlink(), "there is no such file or folder"),
    ],
)
def test_a_damaged_archive_is_one_line(cli: Cli, bundle: Path, tmp_path: Path, change: Change, words: str) -> None:
    target = packed(bundle, tmp_path / "m.tar.gz")
    change(target)
    result = cli("check", target)
    assert (result.exit_code, words in result.error) == (11, True)


def test_another_folder_is_no_bundle(cli: Cli, tmp_path: Path) -> None:
    result = cli("check", tmp_path)
    assert (result.exit_code, "is no bundle: it has no provenance.json" in result.error) == (11, True)


def edited(name: str, change: Callable[[Any], object]) -> Change:
    def do(folder: Path) -> None:
        data = json.loads((folder / name).read_bytes())
        change(data)
        (folder / name).write_text(json.dumps(data))
        make_fit(folder)

    return do


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "provenance.json").write_text("{"), "is no in-toto statement"),
        (edited("provenance.json", lambda data: data.update(_type="x")), "its type is 'x'"),
        (edited("provenance.json", lambda data: data["subject"].append({})), "is no in-toto statement"),
        (edited("manifest.json", lambda data: data.pop("tool")), "is no manifest of this release"),
        (edited("selftest.json", lambda data: data.update(version=2)), "is no self-test of this release"),
        (edited("selftest.json", lambda data: data["cases"].clear()), "is no self-test of this release"),
        (
            edited("selftest.json", lambda data: data["irs"][0].update(file="FP32/other.xml")),
            "names FP32/other.xml, which is not in the bundle",
        ),
        (
            edited("selftest.json", lambda data: data["cases"][0].update(image="../../secret.png")),
            "is no self-test of this release",
        ),
        (
            edited("selftest.json", lambda data: data["cases"][0].update(labels="verification/sheet.input.png")),
            "the files of the golden case sheet do not go together",
        ),
        (
            edited("selftest.json", lambda data: data["cases"][0].update(image="report.html")),
            "report.html: cannot be read",
        ),
        (edited("selftest.json", lambda data: data["irs"][0].update(file="sbom.cdx.xml")), "sbom.cdx.xml"),
    ],
)
def test_a_record_of_another_form_is_one_line(cli: Cli, bundle: Path, change: Change, words: str) -> None:
    change(bundle)
    result = cli("check", bundle)
    assert result.exit_code == 11, result.stderr
    assert words in result.error


def test_a_bundle_without_its_manifest_is_none(cli: Cli, bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    provenance = json.loads((bundle / "provenance.json").read_bytes())
    provenance["subject"] = [one for one in provenance["subject"] if one["name"] != "manifest.json"]
    (bundle / "provenance.json").write_text(json.dumps(provenance))
    result = cli("check", bundle)
    assert (result.exit_code, "has no manifest.json" in result.error) == (11, True)


def test_an_ir_that_is_none_is_one_line(cli: Cli, bundle: Path) -> None:
    (bundle / IRS[1]).write_text("<model/>")
    make_fit(bundle)
    result = cli("check", bundle)
    assert (result.exit_code, f"{bundle / IRS[1]}: is not an IR" in result.error) == (11, True)


def test_a_self_test_that_takes_too_long_is_ended(cli: Cli, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = bundle.parent / "slow.py"
    slow.write_text("import time; time.sleep(60)")
    monkeypatch.setattr("pspnet_convert.selftest.__file__", str(slow))
    result = cli("check", bundle, "--timeout", 1)
    assert (result.exit_code, "the self-test took more than 1 s" in result.error) == (11, True)


def test_a_self_test_that_crashes_is_one_line(cli: Cli, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where OpenVINO crashes on a damaged IR."""
    crash = bundle.parent / "crash.py"
    crash.write_text("import os, sys; print('last words', file=sys.stderr); os.abort()")
    monkeypatch.setattr("pspnet_convert.selftest.__file__", str(crash))
    result = cli("check", bundle)
    assert (result.exit_code, "the self-test ended with -6: last words" in result.error) == (11, True)


def test_a_device_that_is_not_there_is_named_with_those_that_are(cli: Cli, bundle: Path) -> None:
    result = cli("check", bundle, "--device", "NPU")
    assert (result.exit_code, "there is no device NPU here: OpenVINO has CPU" in result.error) == (14, True)


# Signatures


def check_signed(signed: Path, key: Path) -> Result:
    return call("check", signed, "--key", key)


def test_a_signed_bundle_passes_with_the_key_of_its_maker(signed: Path, keys: Path) -> None:
    result = check_signed(signed, keys / "own.pub.pem")
    assert result.exit_code == 0, result.stderr
    assert "signature: valid, of the key " in result.stdout
    contents = unpacked(signed)
    envelope = json.loads(contents["provenance.dsse.json"])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert len(envelope["signatures"]) == 1


def test_without_a_key_a_line_says_that_the_signature_was_not_checked(cli: Cli, signed: Path) -> None:
    result = cli("check", signed)
    assert (result.exit_code, "signature: signed, and not checked" in result.stdout) == (0, True)


def test_the_same_key_gives_the_same_bytes(
    cli: Cli, signed: Path, small: ModelCard, small_run: Path, keys: Path, tmp_path: Path
) -> None:
    command = ["bundle", small.folder, "--output-dir", small_run, "--sign", keys / "own.pem"]
    assert cli(*command, "-o", tmp_path / "again.tar.gz").exit_code == 0
    assert (tmp_path / "again.tar.gz").read_bytes() == signed.read_bytes()


def test_a_signature_of_another_key_is_refused(signed: Path, keys: Path) -> None:
    result = check_signed(signed, keys / "other.pub.pem")
    assert result.exit_code == 21
    assert "small.tar.gz/provenance.dsse.json: the signature is not of the key" in result.error


def test_a_key_is_asked_of_a_bundle_that_is_not_signed(cli: Cli, bundle: Path, keys: Path) -> None:
    result = cli("check", bundle, "--key", keys / "own.pub.pem")
    assert (result.exit_code, f"{bundle}: is not signed" in result.error) == (21, True)


def in_envelope(change: Callable[[dict[str, Any]], object]) -> Change:
    def do(folder: Path) -> None:
        path = folder / "provenance.dsse.json"
        data = json.loads(path.read_bytes())
        change(data)
        path.write_text(json.dumps(data))

    return do


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (make_fit, "is the signature of another provenance.json"),
        (in_envelope(lambda data: data["signatures"].clear()), "the signature is not of the key"),
        (in_envelope(lambda data: data.update(payload="e30=")), "the signature is not of the key"),
        (in_envelope(lambda data: data.update(payloadType="text/plain")), "is about a text/plain"),
        (in_envelope(lambda data: data.pop("payload")), "is no signed envelope"),
        (lambda folder: (folder / "provenance.dsse.json").write_bytes(b"\xff"), "is no signed envelope"),
    ],
)
def test_a_forged_envelope_is_refused(
    cli: Cli, signed: Path, keys: Path, tmp_path: Path, change: Change, words: str
) -> None:
    folder = written(unpacked(signed), tmp_path / "forged")
    change(folder)
    result = cli("check", folder, "--key", keys / "own.pub.pem")
    assert result.exit_code == 21, result.stderr
    assert words in result.error


def other_keys(folder: Path) -> None:
    """Keys that cannot sign: of another kind, with a password; and no key."""
    key, elliptic = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    form = (Encoding.PEM, PrivateFormat.PKCS8)
    (folder / "password.pem").write_bytes(key.private_bytes(*form, BestAvailableEncryption(b"secret")))
    (folder / "elliptic.pem").write_bytes(elliptic.private_bytes(*form, NoEncryption()))
    public = elliptic.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "elliptic.pub.pem").write_bytes(public)
    (folder / "text.pem").write_text("no key")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("text.pem", "is no private key in PEM. Make one with `openssl genpkey"),
        ("password.pem", "the key is encrypted. Take the password off with `openssl pkey"),
        ("elliptic.pem", "is no Ed25519 key"),
        ("missing.pem", "cannot be read"),
    ],
)
def test_a_bundle_is_signed_with_an_ed25519_key_only(
    cli: Cli, small: ModelCard, small_run: Path, tmp_path: Path, key: str, words: str
) -> None:
    other_keys(tmp_path)
    target = tmp_path / "m.tar.gz"
    result = cli("bundle", small.folder, "--output-dir", small_run, "-o", target, "--sign", tmp_path / key)
    assert (result.exit_code, words in result.error) == (2, True), result.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("text.pem", "is no public key in PEM. Make it with `openssl pkey"),
        ("elliptic.pub.pem", "is no Ed25519 key"),
        ("missing.pem", "cannot be read"),
    ],
)
def test_a_signature_is_checked_with_an_ed25519_key_only(
    cli: Cli, signed: Path, tmp_path: Path, key: str, words: str
) -> None:
    other_keys(tmp_path)
    result = cli("check", signed, "--key", tmp_path / key)
    assert (result.exit_code, words in result.error) == (2, True), result.stderr


def test_without_the_library_one_line_says_what_to_install(
    cli: Cli, signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    result = cli("check", signed, "--key", keys / "own.pub.pem")
    assert result.exit_code == 14
    assert 'Run `pip install "pspnet-convert[sign]"`' in result.error


def test_openssl_reads_the_same_signature(signed: Path, keys: Path, tmp_path: Path) -> None:
    """The bytes that are signed are DSSE's, so that other tools can check them."""
    import base64

    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    contents = unpacked(signed)
    envelope = json.loads(contents["provenance.dsse.json"])
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    assert payload == contents["provenance.json"]
    (tmp_path / "signed").write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload))
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys / "own.pub.pem", "-rawin"]
    done = subprocess.run([*command, "-in", tmp_path / "signed", "-sigfile", tmp_path / "signature"])
    assert done.returncode == 0
