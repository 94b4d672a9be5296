"""What is in a bundle of the small model."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

IRS = [f"{precision}/small-standin.{half}" for precision in ("FP16", "FP32") for half in ("bin", "xml")]
LICENCE = "APACHE-2.0-MMSegmentation-Models.txt"
GOLDEN = [f"verification/sheet.{part}.png" for part in ("input", "margin", "reference")]
SELF_TEST = ["selftest.json", "selftest.py", *GOLDEN]


def unpacked(archive: Path) -> dict[str, bytes]:
    """The files' contents by path below the model's folder."""
    contents = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            file = opened.extractfile(member)
            assert file is not None
            contents[member.name.partition("/")[2]] = file.read()
    return contents


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
