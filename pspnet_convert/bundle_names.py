"""The names of the files in a bundle that `bundle` writes and `check` reads."""

from __future__ import annotations

CARD = "model.yml"
MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"
ENVELOPE = "provenance.dsse.json"  # the signature; a bundle that is not signed has none
SELF_TEST = "selftest.py"
SETTINGS = "selftest.json"
