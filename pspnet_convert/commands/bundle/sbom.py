"""Turn a manifest into a CycloneDX bill of materials: the model's files, its checkpoint, the tools."""

from __future__ import annotations

import json
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.spdx import fixup_id
from packageurl import PackageURL

from pspnet_convert.cards.card import NOT_STATED, ModelCard
from pspnet_convert.manifest_document import ManifestDocument
from pspnet_convert.manifest_fields import File


def sbom(manifest: ManifestDocument) -> dict[str, Any]:
    """The CycloneDX 1.6 document of the manifest's model, in plain values; the same conversion gives the same."""
    model = _model(manifest)
    checkpoint = _checkpoint(manifest)
    tools = [_tool(package, version) for package, version in manifest.tools]
    bom = Bom(components=[checkpoint, *tools])
    bom.metadata.component = model
    bom.register_dependency(model, [checkpoint, *tools])
    document = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    # The library always writes the time and a random serial number; CycloneDX does not require them.
    del document["metadata"]["timestamp"], document["serialNumber"]
    number = uuid5(NAMESPACE_OID, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": number.urn}


def _model(manifest: ManifestDocument) -> Component:
    card = manifest.model
    return Component(
        name=card.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=card.name,
        description=card.description,
        licenses=_licenses(manifest),
        components=[_file(file, ComponentType.FILE) for file in manifest.irs],
    )


def _checkpoint(manifest: ManifestDocument) -> Component:
    card = manifest.model
    recorded = manifest.stages["export-onnx"].inputs.checkpoint
    checkpoint = _file(recorded, ComponentType.MACHINE_LEARNING_MODEL)
    checkpoint.licenses = _licenses(manifest)
    if recorded.is_the_cards:
        checkpoint.external_references = _sources(card)
    return checkpoint


def _file(file: File, kind: ComponentType) -> Component:
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)]
    return Component(name=file.file, type=kind, bom_ref=file.file, hashes=hashes)


def _tool(package: str, version: str) -> Component:
    purl = PackageURL("pypi", name=package, version=version)
    return Component(name=package, version=version, type=ComponentType.LIBRARY, bom_ref=purl.to_string(), purl=purl)


def _licenses(manifest: ManifestDocument) -> list[DisjunctiveLicense]:
    """The card's licence, by SPDX identifier or else by name; none if it states none, or for another checkpoint."""
    stated = manifest.model.license
    if stated.name == NOT_STATED or not manifest.stages["export-onnx"].inputs.checkpoint.is_the_cards:
        return []
    url = XsUri(stated.url) if stated.url else None
    spdx = fixup_id(stated.name)
    return [DisjunctiveLicense(id=spdx, url=url) if spdx else DisjunctiveLicense(name=stated.name, url=url)]


def _sources(card: ModelCard) -> list[ExternalReference]:
    urls = [source for source in card.checkpoint.sources if source.startswith(("http://", "https://"))]
    return [ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url)) for url in urls]
