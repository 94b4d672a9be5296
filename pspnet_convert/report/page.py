"""The page of a run: `report.html`, one file that needs nothing else to be looked at.

Made by a template from the manifest and the pictures that verify left, with style and script inside; what it says
is gathered in facts.py, charts.py and samples.py.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert import verdict
from pspnet_convert.files import write_atomically
from pspnet_convert.report import charts, facts
from pspnet_convert.report.samples import most_telling, read_samples
from pspnet_convert.report.words import FILTERS
from pspnet_convert.verdict import DigestOf

if TYPE_CHECKING:
    from jinja2 import Environment

_PARTS = Path(__file__).parent


def write_report(manifest: Mapping[str, Any], folder: Path, digest_of: DigestOf, target: Path) -> None:
    """Write the page of `manifest` (Manifest.as_dict's) to `target`; the same run gives the same bytes.

    `folder` is the one that the manifest's file names are relative to; `digest_of` tells whether its files are as
    the manifest has them. WorkspaceError if the page cannot be written.
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


def _render(manifest: Mapping[str, Any], folder: Path, digest_of: DigestOf) -> str:
    script = (_PARTS / "page.js").read_text(encoding="utf-8")
    stages = manifest["stages"]
    there = verdict.present(stages, folder, digest_of)
    samples = read_samples(manifest, folder, digest_of)
    template = _environment().get_template("page.html.j2")
    return template.render(
        model=manifest["model"],
        tool=manifest["tool"],
        stages=stages,
        style=(_PARTS / "page.css").read_text(encoding="utf-8"),
        script=script,
        # The browser runs this script and no other, wherever one might have slipped in.
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
        ir=facts.first_ir(stages),
        shape=facts.image_shape(manifest),
        form=facts.input_form(stages),
        label_type=facts.label_type(stages),
        steps=facts.steps(stages),
        versions=facts.versions(stages),
    )
