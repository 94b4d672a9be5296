"""How often the INT8 IR gives the reference's label on the golden cases of a bundle's self-test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pspnet_convert import selftest
from pspnet_convert.job import Job
from pspnet_convert.selftest_settings import golden_files, self_test_settings
from pspnet_convert.workspace import INT8


def golden_records(job: Job) -> list[dict[str, Any]]:
    """The files of the golden cases, as plain values; none where one is missing or is not the verification's."""
    manifest = job.manifest.document
    if self_test_settings(manifest) is None:
        return []
    records = [file.model_dump() for file in golden_files(manifest)]
    is_there = all(
        (path := job.workspace.folder / record["file"]).is_file() and job.digests.of(path) == record["sha256"]
        for record in records
    )
    return records if is_there else []


def golden_agreement(job: Job, golden: Sequence[dict[str, Any]]) -> float | None:
    """The share of the pixels in the files `golden` with the reference's label, 0..1, at f32 on this processor.

    None where the IR does not take the images, which are of an earlier conversion then.
    """
    settings = self_test_settings(job.manifest.document)
    assert settings is not None and golden, "there are golden cases"
    ir = {"file": f"{INT8}/{job.workspace.ir(INT8).name}", "precision": "INT8", "min_agreement": 0}
    plain = {**settings.model_dump(mode="json"), "irs": [ir]}
    folder = job.workspace.folder
    row = selftest.run_irs(folder, plain, selftest.read_cases(folder, plain), "CPU")[0]
    return None if row.fault else row.agreement
