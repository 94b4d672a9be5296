"""Read single values from the text of mmsegmentation's configs, without running them or importing mmengine.

This is fast enough to choose among hundreds of configs.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ConfigTexts:
    """Configs by path; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, Mapping[str, ast.expr]] = {}

    def value(self, path: Path, *keys: str) -> Any:
        """The literal under nested `keys` in the file, or else in the first of its bases that has it.

        None if there is none, if it is not a literal, or if a key leads into something other than a dictionary.
        """
        assignments = self._assignments(path)
        node: ast.expr | None = assignments.get(keys[0])
        for key in keys[1:]:
            if node is None:
                break
            entries = _entries(node)
            if entries is None:
                return None
            node = entries.get(key)
        if node is not None:
            return _literal(node)
        found = (self.value(base, *keys) for base in self._bases(path, assignments))
        return next((value for value in found if value is not None), None)

    def _assignments(self, path: Path) -> Mapping[str, ast.expr]:
        if path not in self._known:
            try:
                statements = ast.parse(path.read_bytes()).body
            except (OSError, SyntaxError, ValueError):  # no config, so no PSPNet
                statements = []
            self._known[path] = {
                target.id: statement.value
                for statement in statements
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            }
        return self._known[path]

    @staticmethod
    def _bases(path: Path, assignments: Mapping[str, ast.expr]) -> list[Path]:
        named = _literal(assignments["_base_"]) if "_base_" in assignments else []
        names = [named] if isinstance(named, str) else named or []
        return [Path(path.parent, name) for name in names]


def _entries(node: ast.expr) -> Mapping[str, ast.expr] | None:
    """What `dict(key=...)` or `{"key": ...}` holds; None for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
    if isinstance(node, ast.Dict):
        return {str(key.value): value for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)}
    return None


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
