"""Read and write a card's YAML; aliases, merges, repeated keys and deep nesting are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pspnet_convert.errors import CardError, first_line

MAX_CARD_BYTES = 64 * 1024
_MAX_DEPTH = 20
_MERGE = "tag:yaml.org,2002:merge"
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def read_yaml(path: Path) -> Any:
    """What PyYAML's safe loader makes of the file; CardError with one line that names the place and the fault."""
    text = _read(path)
    try:
        _refuse_bombs(path, text)
        return _Loader(text).get_single_data()
    # PyYAML raises the last five for a value that does not fit its tag, such as `!!bool maybe`.
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise CardError(f"{path}: not valid YAML: {_place(error)}") from error


def as_yaml(data: Any) -> str:
    """Plain data as YAML: keys in their order, no aliases, the same text for the same data."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


class _Loader(yaml.SafeLoader):
    """Refuses a repeated key, where PyYAML silently takes the last one, and merging (`<<`)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == _MERGE:
                raise yaml.constructor.ConstructorError(None, None, "merging (<<) is not allowed", key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                continue  # super() refuses it, since it is no key for a dict
            if key.value in seen:
                words = f"the key {key.value[:100]!r} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CARD_BYTES + 1)  # a limit, since /dev/zero has no end
        if len(content) > MAX_CARD_BYTES:
            raise CardError(f"{path}: is too large for a card (more than {MAX_CARD_BYTES} bytes)")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read: {error}", "Give the path of a model.yml.") from error


def _refuse_bombs(path: Path, text: str) -> None:
    """Refuse aliases, which YAML bombs are made of, and deep nesting, which takes the scanner quadratic time."""
    depth = 0
    for token in yaml.scan(text):
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if isinstance(token, yaml.AliasToken):
            raise CardError(f"{path}: YAML aliases (*name) are not allowed in a card")
        if depth > _MAX_DEPTH:
            raise CardError(f"{path}: line {token.start_mark.line + 1}: nested deeper than {_MAX_DEPTH} levels")


def _place(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {str(error.problem)[:300]}"
    return first_line(error)
