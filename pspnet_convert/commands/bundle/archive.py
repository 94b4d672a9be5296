"""Pack a converted model into one .tar.gz: IRs, self-test, card, licence, manifest, provenance, SBOM, report page.

Models that are not verified are refused by default. The same workspace gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pspnet_convert import selftest
from pspnet_convert.bundle_names import CARD, ENVELOPE, MANIFEST, PROVENANCE, SELF_TEST, SETTINGS
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.card_yaml import as_yaml
from pspnet_convert.cards.catalog import shipped
from pspnet_convert.commands.bundle.options import BundleOptions
from pspnet_convert.commands.bundle.ovms import FOLDER, model_repository, serve_one_ir
from pspnet_convert.commands.bundle.provenance import provenance, tool_purl
from pspnet_convert.commands.bundle.sbom import sbom
from pspnet_convert.errors import ArtifactError, UnverifiedError
from pspnet_convert.files import Digests, sha256_of, write_atomically
from pspnet_convert.manifest_document import ManifestDocument, read_manifest
from pspnet_convert.manifest_fields import ConvertedCard, ExportOnnx, File, ToIr
from pspnet_convert.progress import Progress
from pspnet_convert.report_page.page import write_report
from pspnet_convert.selftest_settings import golden_files, self_test_settings
from pspnet_convert.signature import sign
from pspnet_convert.verdict import doubt, present
from pspnet_convert.workspace import INT8, Workspace, ir_files

Content = Path | bytes
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """The archive, its SHA-256 (hex) and size (bytes), and its files by their names in it."""

    path: Path
    sha256: str
    size: int
    files: Sequence[File]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = [file.model_dump() for file in self.files]
        return {"path": str(self.path), "sha256": self.sha256, "size": self.size, "files": files}


def write_bundle(card: ModelCard, workspace: Workspace, progress: Progress, options: BundleOptions) -> Bundle:
    """Pack the workspace's IRs, and what documents them, into `options.output`, by default `<name>.tar.gz`.

    For the layout `ovms` it is one IR, as a model repository of OpenVINO Model Server, without the self-test; by
    default `<name>-ovms.tar.gz`.

    `options.builder_id` is the provenance's; without one it is this tool's package URL. `options.sign`: the key that
    signs the provenance. Raises UnverifiedError where the files have not passed verification, unless
    `options.allow_unverified`; ArtifactError where one is missing or not what the manifest says, or the card's licence
    text is not found; WorkspaceError where the disk refuses; and the errors of signature.sign.
    """
    target = options.output or Path(f"{card.name}{'' if options.layout == 'omz' else '-ovms'}.tar.gz")
    manifest = read_manifest(workspace.manifest)
    digests = Digests()
    for file in [*_irs(workspace, manifest), *golden_files(manifest)]:
        _check_file(workspace, file, digests)
    _check_card(workspace, manifest)
    found = doubt(manifest.stages, present(manifest.stages, workspace.folder, digests.of))
    if found and not options.allow_unverified:
        words, advice = found
        raise UnverifiedError(
            f"{workspace.folder}: {words.rstrip('.')}", f"{advice}, or use --allow-unverified to pack it as it is."
        )
    write_report(manifest, workspace.folder, digests.of, workspace.report)
    builder_id = options.builder_id or tool_purl("pspnet-convert", manifest.tool.version)
    is_repository = options.layout == "ovms"
    contents = dict(_contents(card, workspace, manifest))
    if is_repository:
        served, contents = serve_one_ir(workspace, contents, options.precision)
    else:
        contents.update(_self_test(workspace, manifest))
    subjects = [_record(name, content, digests) for name, content in sorted(contents.items())]
    (as_packed,) = (file for file in subjects if file.file == CARD)
    contents[PROVENANCE] = statement = _json(provenance(manifest, subjects, as_packed, builder_id))
    if options.sign is not None:
        contents[ENVELOPE] = sign(statement, options.sign)
    if is_repository:
        contents = model_repository(workspace, served, contents)
    records = [_record(name, content, digests) for name, content in sorted(contents.items())]
    with write_atomically(target) as (temporary,):
        _pack(temporary, FOLDER if is_repository else card.name, contents, records, progress)
        packed = sha256_of(temporary), temporary.stat().st_size
    return Bundle(target, *packed, records)


def _irs(workspace: Workspace, manifest: ManifestDocument) -> list[File]:
    """The files of the manifest's IRs, two for each; ArtifactError if one is missing in the manifest."""
    irs = manifest.irs
    if not irs or "export-onnx" not in manifest.stages:
        what = "IR" if not irs else "export-onnx, so the checkpoint of its IRs is not known"
        raise ArtifactError(f"{workspace.manifest}: has no {what}", "Run `pspnet-convert run` first.")
    names = {file.file for file in irs}
    alone = [name for name in sorted(names) if not {file.as_posix() for file in ir_files(Path(name))} <= names]
    if alone:
        raise ArtifactError(
            f"{workspace.manifest}: has {alone[0]}, but not the other file of this IR",
            "Run `pspnet-convert run` again.",
        )
    return irs


def _check_file(workspace: Workspace, file: File, digests: Digests) -> None:
    path = workspace.folder / file.file
    if not path.is_file() or digests.of(path) != file.sha256:
        stage = {INT8: "quantize", workspace.verification.name: "verify"}.get(path.parent.name, "run")
        raise ArtifactError(
            f"{path}: is missing, or not the one in {workspace.manifest.name}", f"Run `pspnet-convert {stage}` again."
        )


def _check_card(workspace: Workspace, manifest: ManifestDocument) -> None:
    """ArtifactError if the files were converted with another card than the manifest's, which is the last command's."""
    card = ConvertedCard.model_validate(manifest.model.model_dump(include=set(ConvertedCard.model_fields)))
    stages: Sequence[ExportOnnx | ToIr | None] = [manifest.stages.get("export-onnx"), manifest.stages.get("to-ir")]
    if any(stage.inputs.card != card for stage in stages if stage):
        raise ArtifactError(
            f"{workspace.manifest}: its files were converted with another card", "Run `pspnet-convert run` again."
        )


def _contents(card: ModelCard, workspace: Workspace, manifest: ManifestDocument) -> Mapping[str, Content]:
    """The archive's contents by name, without self-test and provenance.

    The card is the manifest's: `card` may have changed.
    """
    model = manifest.model.model_dump(mode="json", exclude_none=True)
    contents: dict[str, Content] = {file.file: workspace.folder / file.file for file in manifest.irs}
    if manifest.model.license.file is not None:
        contents[manifest.model.license.file] = _licence_text(card, manifest.model.license.file)
    return {
        **contents,
        CARD: as_yaml(model).encode(),
        MANIFEST: workspace.manifest,
        "report.html": workspace.report,
        "sbom.cdx.json": _json(sbom(manifest)),
    }


def _self_test(workspace: Workspace, manifest: ManifestDocument) -> Mapping[str, Content]:
    """The golden cases, and the program that runs them; nothing where the manifest has none."""
    settings = self_test_settings(manifest)
    if settings is None:
        log.warning(
            "the bundle has no self-test: there is no verification, or an earlier release's. "
            "Run `pspnet-convert verify --force`."
        )
        return {}
    return {
        **{file.file: workspace.folder / file.file for file in golden_files(manifest)},
        SELF_TEST: Path(selftest.__file__),
        SETTINGS: _json(settings.model_dump(mode="json")),
    }


def _licence_text(card: ModelCard, name: str) -> Path:
    """The file `name` next to the card, or among those that come with this tool."""
    for folder in (card.folder, shipped("licenses")):
        if (folder / name).is_file():
            return folder / name
    raise ArtifactError(f"{name}: the card's licence text is not found", f"Put it next to {card.path}.")


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _record(name: str, content: Content, digests: Digests) -> File:
    if isinstance(content, Path):
        return File(**digests.record(content, name))
    return File(file=name, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def _pack(
    target: Path, folder: str, contents: Mapping[str, Content], records: Sequence[File], progress: Progress
) -> None:
    """Write the archive, without traces of machine or day: TarInfo's default time is 0, owner root, mode 0644."""
    progress.start(sum(record.size for record in records), "packing", stage="bundle")
    try:
        with (
            target.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for record in records:
                entry = tarfile.TarInfo(f"{folder}/{record.file}")
                entry.size = record.size
                content = contents[record.file]
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
                    archive.addfile(entry, stream)
                progress.advance(record.size)
    finally:
        progress.done()
