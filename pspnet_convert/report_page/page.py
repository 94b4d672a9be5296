"""Write a run's `report.html` from its manifest and verification pictures. Style, script and pictures are inside."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pspnet_convert import verdict
from pspnet_convert.cards.in_words import ir_input_text
from pspnet_convert.files import write_atomically
from pspnet_convert.manifest_document import ManifestDocument
from pspnet_convert.report_page import charts, facts
from pspnet_convert.report_page.samples import most_telling, read_samples
from pspnet_convert.report_page.words import FILTERS
from pspnet_convert.verdict import DigestOf

if TYPE_CHECKING:
    from jinja2 import Environment

_PARTS = Path(__file__).parent


def write_report(manifest: ManifestDocument, folder: Path, digest_of: DigestOf, target: Path) -> None:
    """Write the page of `manifest` to `target`; the same run gives the same bytes.

    `folder`: what the manifest's file names are relative to. `digest_of`: gives a file's SHA-256, to see whether it is
    the one in the manifest. WorkspaceError if the page cannot be written.
    """
    page = _render(manifest, folder, digest_of).encode()
    if not target.is_file() or target.read_bytes() != page:
        with write_atomically(target) as (temporary,):
            temporary.write_bytes(page)


@cache
def _environment() -> Environment:
    """Jinja's, which keeps the templates that it has compiled."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def _render(manifest: ManifestDocument, folder: Path, digest_of: DigestOf) -> str:
    script = (_PARTS / "page.js").read_text(encoding="utf-8")
    stages = manifest.stages
    there = verdict.present(stages, folder, digest_of)
    samples = read_samples(manifest, folder, digest_of)
    template = _environment().get_template("page.html.j2")
    return template.render(
        model=manifest.model,
        tool=manifest.tool,
        stages=stages,
        style=(_PARTS / "page.css").read_text(encoding="utf-8"),
        script=script,
        # The browser runs only the script with this hash.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        verdict=verdict.verdict(stages, there),
        outdated=verdict.outdated(stages, there),
        notices=facts.notices(stages),
        figures=facts.key_figures(stages),
        samples=samples,
        shown=most_telling(samples),
        sizes=charts.sizes(stages),
        accuracies=charts.accuracies(stages),
        latencies=charts.latencies(stages),
        measured_bars=charts.benchmark(stages),
        tried=charts.tried(stages),
        ir=facts.first_ir(stages),
        shape=facts.image_shape(manifest),
        form=facts.input_form(stages),
        ir_input=ir_input_text(manifest.model.input),
        gives=facts.output_form(stages),
        steps=facts.steps(stages),
        versions=facts.versions(stages),
    )
