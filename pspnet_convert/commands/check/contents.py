"""Check a bundle's files against its provenance and its manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pspnet_convert.bundle_names import ENVELOPE, MANIFEST, PROVENANCE, STATEMENT
from pspnet_convert.commands.check.open_bundle import OpenBundle
from pspnet_convert.errors import ArtifactError, DigestError, SignatureError, UnverifiedError, count
from pspnet_convert.files import sha256_of
from pspnet_convert.manifest_document import ManifestDocument, check_manifest
from pspnet_convert.selftest_settings import golden_files
from pspnet_convert.signature import check_signature, key_name
from pspnet_convert.verdict import doubt

_ADVICE = "Do not use it: get the bundle again from where it was made."


@dataclass(frozen=True)
class Contents:
    """A bundle's files with their digests (SHA-256 in hex) by name, and its manifest. `signature`: in words."""

    digests: Mapping[str, str]
    manifest: ManifestDocument
    signature: str


def check_contents(bundle: OpenBundle, key: Path | None) -> Contents:
    """Check all files of a bundle.

    Raises SignatureError where `key`'s owner has not signed it; DigestError for a file that is missing, that has
    changed, or that neither provenance nor manifest names; UnverifiedError where the manifest says that its models
    were not verified; ArtifactError for files that are not of a bundle's form.
    """
    names = bundle.files
    statement = (bundle.folder / PROVENANCE).read_bytes()
    signature = _signature(bundle, statement, key)
    digests = {name: sha256_of(bundle.folder / name) for name in names}
    described = {name: sha256 for name, sha256 in digests.items() if name not in (PROVENANCE, ENVELOPE)}
    _compare(bundle, described, _subjects(statement, bundle.named / PROVENANCE), PROVENANCE)
    if MANIFEST not in digests:
        raise ArtifactError(f"{bundle.named}: has no {MANIFEST}", _ADVICE)
    manifest = check_manifest((bundle.folder / MANIFEST).read_bytes(), bundle.named / MANIFEST)
    recorded = {file.file: file.sha256 for file in [*manifest.irs, *golden_files(manifest)]}
    _compare(bundle, {name: described[name] for name in recorded if name in described}, recorded, MANIFEST)
    _check_verified(bundle, manifest, digests)
    return Contents(digests, manifest, signature)


def _signature(bundle: OpenBundle, statement: bytes, key: Path | None) -> str:
    path, shown = bundle.folder / ENVELOPE, bundle.named / ENVELOPE
    if key is None:
        return "signed, and not checked: --key checks it" if path.is_file() else "not signed"
    if not path.is_file():
        raise SignatureError(f"{bundle.named}: is not signed", "Ask who made it to sign it with `bundle --sign`.")
    envelope = path.read_bytes()
    if check_signature(envelope, key, shown) != statement:
        raise SignatureError(f"{shown}: is the signature of another {PROVENANCE}", _ADVICE)
    return f"valid, of the key {key_name(envelope, shown)[:16]}"


def _subjects(statement: bytes, shown: Path) -> dict[str, str]:
    """The files that an in-toto statement is about, with their digests; ArtifactError if it is none."""
    try:
        said: Any = json.loads(statement)
        if said["_type"] != STATEMENT:
            raise ValueError(f"its type is {said['_type']!r}")
        return {str(one["name"]): str(one["digest"]["sha256"]) for one in said["subject"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{shown}: is no in-toto statement: {error!r}") from error


def _compare(bundle: OpenBundle, there: Mapping[str, str], wanted: Mapping[str, str], record: str) -> None:
    """DigestError unless `there` are the `wanted` files, to the byte."""
    faults = [f"{name}: is missing" for name in wanted if name not in there]
    changed = [name for name in wanted if name in there and there[name] != wanted[name]]
    faults += [f"{name}: is not the file in {record}" for name in changed]
    faults += [f"{name}: is not in {record}" for name in there if name not in wanted]
    if faults:
        more = f", and {count(len(faults) - 1, 'fault')} more" if len(faults) > 1 else ""
        raise DigestError(f"{bundle.named / faults[0]}{more}", _ADVICE)


def _check_verified(bundle: OpenBundle, manifest: ManifestDocument, digests: Mapping[str, str]) -> None:
    """UnverifiedError unless the manifest says that the models in the bundle were verified."""
    verified = manifest.stages.get("verify")
    models = verified.inputs.models if verified else []
    onnx = {file.file: file.sha256 for file in models if file.file.endswith(".onnx")}  # it is not packed
    found = doubt(manifest.stages, {**digests, **onnx})
    if found is not None:
        words = found[0].rstrip(".")
        raise UnverifiedError(f"{bundle.named / MANIFEST}: {words}", "It was packed with --allow-unverified.")
