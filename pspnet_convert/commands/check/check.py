"""Check a bundle: its files, its signature, and what its IRs answer on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pspnet_convert.commands.check.contents import check_contents
from pspnet_convert.commands.check.open_bundle import open_bundle
from pspnet_convert.commands.check.options import CheckOptions
from pspnet_convert.commands.check.run_selftest import run_self_test
from pspnet_convert.errors import ConvertError, InconclusiveError, MismatchError
from pspnet_convert.selftest import in_words


@dataclass(frozen=True)
class Checked:
    """A bundle with the right files. `files` is their number. `self_test` is the JSON that selftest.py printed."""

    bundle: Path
    model: str
    files: int
    signature: str
    self_test: dict[str, Any]

    @property
    def in_words(self) -> list[str]:
        """The lines that are printed."""
        about = [f"{self.bundle}: {self.model}, {self.files} files as recorded", f"signature: {self.signature}"]
        return [*about, *in_words(self.self_test)]

    @property
    def failure(self) -> ConvertError | None:
        """The error of a self-test that did not pass."""
        if self.self_test["verdict"] == "pass":
            return None
        if self.self_test["verdict"] == "inconclusive":
            return InconclusiveError(f"{self.bundle}: {self.self_test['doubt'] or 'has no IR to run'}")
        wrong = next(row for row in self.self_test["results"] if row["fault"])
        device = self.self_test["device"]
        return MismatchError(
            f"{self.bundle}: {wrong['file']} is wrong at {wrong['computed_in']} on {device}: {wrong['fault']}",
            "Do not use it here.",
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "bundle": str(self.bundle),
            "model": self.model,
            "verdict": self.self_test["verdict"],
            "files": self.files,
            "signature": self.signature,
            "self_test": self.self_test,
        }


def check_bundle(path: Path, options: CheckOptions) -> Checked:
    """Check the bundle at `path`, an archive or a folder.

    Raises the errors of open_bundle, check_contents and run_self_test. A self-test that ran and did not pass is the
    result's `failure`.
    """
    with open_bundle(path) as bundle:
        contents = check_contents(bundle, options.key)
        found = run_self_test(bundle, contents.digests, options.device, options.timeout)
    return Checked(path, contents.manifest.model.name, len(contents.digests), contents.signature, found)
