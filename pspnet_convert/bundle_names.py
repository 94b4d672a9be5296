"""The names that `bundle` writes and `check` reads: of the files in a bundle, and of the provenance's form."""

from __future__ import annotations

CARD = "model.yml"
MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"
ENVELOPE = "provenance.dsse.json"  # the signature; a bundle that is not signed has none
SELF_TEST = "selftest.py"
SETTINGS = "selftest.json"
STATEMENT = "https://in-toto.io/Statement/v1"
