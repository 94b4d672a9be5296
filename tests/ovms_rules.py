"""What OpenVINO Model Server asks of a model repository, written from its documentation and sources.

`config.json`: src/schema.cpp (which keys, of which types), src/shape.cpp and src/layout.cpp (the text of a shape and a
layout); the folders: docs/models_repository_classic.md; all in github.com/openvinotoolkit/model_server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TEXT_OR_MAP = (str, dict)
_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "base_path": str,
    "batch_size": (int, str),
    "model_version_policy": dict,
    "shape": _TEXT_OR_MAP,
    "layout": _TEXT_OR_MAP,
    "nireq": int,
    "target_device": str,
    "allow_cache": bool,
    "plugin_config": dict,
}


def faults(folder: Path) -> list[str]:
    """What is wrong with the model repository in `folder`; empty if the server would read it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict) or set(config) != {"model_config_list"}:
        return ["config.json is no object with model_config_list alone"]
    found: list[str] = []
    for entry in config["model_config_list"]:
        if not isinstance(entry, dict) or set(entry) != {"config"}:
            found.append("an entry of model_config_list is no object with config alone")
        else:
            found += [*_config_faults(entry["config"]), *_folder_faults(folder, entry["config"])]
    return found


def _config_faults(config: dict[str, Any]) -> Iterator[str]:
    if missing := {"name", "base_path"} - set(config):
        yield f"config has no {', '.join(sorted(missing))}"
    for key, value in config.items():
        if key not in _KEYS:
            yield f"config must not have {key}"
        elif not isinstance(value, _KEYS[key]):
            yield f"{key} is a {type(value).__name__}"
    for kind, is_valid in (("shape", _is_shape), ("layout", _is_layout)):
        given = config.get(kind, {})
        for text in given.values() if isinstance(given, dict) else [given]:
            if not isinstance(text, str) or not is_valid(text):
                yield f"{kind} {text!r} is not of its form"
    for option, value in config.get("plugin_config", {}).items():
        if not isinstance(value, (str, bool, int, float)):
            yield f"plugin_config {option} is a {type(value).__name__}"


def _is_shape(text: str) -> bool:
    """In parentheses: a number, a range of numbers, or -1 for any, for each dimension."""
    return re.fullmatch(r"\((-1|\d+(:\d+)?)(,(-1|\d+(:\d+)?))*\)", text.replace(" ", "")) is not None


def _is_layout(text: str) -> bool:
    """One, or what is sent and what the model takes. A letter stands once, and ... once."""
    parts = text.upper().split(":")
    return len(parts) <= 2 and all(
        re.fullmatch(r"[NCHWD?]*(\.\.\.)?[NCHWD?]*", part) and part and all(part.count(axis) <= 1 for axis in "NCHWD")
        for part in parts
    )


def _folder_faults(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    base = folder / str(config.get("base_path"))
    versions = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    if not versions:
        yield f"{base.name} has no folder of a version"
    for version in versions:
        if not re.fullmatch(r"[1-9]\d*", version.name):
            yield f"{version.name} is no number of a version"
        if sorted(path.suffix for path in version.iterdir()) != [".bin", ".xml"]:
            yield f"{version.name} has not one .xml and one .bin"
