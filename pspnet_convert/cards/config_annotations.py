"""Read from a config what the numbers in its test annotations mean, from mmsegmentation's class of the data set."""

from __future__ import annotations

import inspect
import logging
import posixpath
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pspnet_convert.cards.annotations import IGNORED, Annotations
from pspnet_convert.cards.config_parts import (
    Part,
    datasets,
    metric_of,
    name_of,
    named_steps,
    tested_datasets,
    type_of,
)
from pspnet_convert.cards.registry_names import without_own_scope
from pspnet_convert.errors import first_line
from pspnet_convert.mmcv_ops import provide_mmcv_ops

if TYPE_CHECKING:
    from mmengine.config import Config

# Of a data set's arguments: what opens files, or is about images alone.
_NOT_NEEDED = ("type", "pipeline", "lazy_init", "test_mode", "indices", "backend_args")
_HARMLESS = (
    *("data_root", "data_prefix", "ann_file", "img_suffix", "seg_map_suffix", "reduce_zero_label", "ignore_index"),
)
log = logging.getLogger(__name__)


def annotations_of(config: Config, *, only_known: bool = False) -> Annotations:
    """The annotations that the config tests with, or else trains with.

    `only_known`: the config is not trusted. Its data set is made only of a class that mmsegmentation has, and only of
    arguments that name no file: mmengine would import a module that has the class's name.

    They are read from an object of mmsegmentation's class, which can set them itself. Logs what a card cannot hold.
    """
    name = name_of(config)
    found = tested_datasets(config) or list(datasets(config.get("train_dataloader") or {}))
    if not found:
        log.warning("%s: has no data set, which would say what the numbers in annotations mean", name)
        return Annotations()
    if len(found) > 1:
        log.warning("%s: tests on %d data sets; the card describes the annotations of the first", name, len(found))
    if found[0].get("indices") is not None:
        log.warning(
            "%s: tests on the indices %.100r of its data set alone; evaluate takes all", name, found[0]["indices"]
        )
    values = _values_of(found[0], name, only_known=only_known)
    asked = [step.get("reduce_zero_label") for step in named_steps(found[0].get("pipeline"), "LoadAnnotations")]
    if any(reduces not in (None, values["reduce_zero_label"]) for reduces in asked):
        words = "%s: LoadAnnotations and %s differ in reduce_zero_label, which mmsegmentation refuses; taking %s"
        log.warning(words, name, values["dataset"], values["reduce_zero_label"])
    metric = metric_of(config) or {}
    values.update(ignore_index=metric.get("ignore_index", IGNORED))
    return _checked(values, name)


def _values_of(dataset: Part, name: str, *, only_known: bool) -> dict[str, Any]:
    """The fields of Annotations that the class of `dataset` determines."""
    kind = type_of(dataset)
    arguments = {key: value for key, value in without_own_scope(dataset).items() if key not in _NOT_NEEDED}
    if "pipeline" in dataset:
        arguments["pipeline"] = []
    if only_known:
        arguments = {key: value for key, value in arguments.items() if key in _HARMLESS or _is_metainfo(key, value)}
    with _classes(only_known=only_known) as (find, base):
        try:
            found = find(kind)
            values = _fields(_made(found, arguments))
            if found.load_data_list is not base.load_data_list:
                log.warning("%s: %s finds its files in a way of its own, which a card does not have", name, kind)
        except Exception as error:  # the class may be the user's own
            words = "%s: the data set %s cannot be made (%s); its annotations are read as %s reads them"
            log.warning(words, name, kind, first_line(error), base.__name__)
            values = _fields_of_base(base, arguments)
    return {"dataset": kind.rpartition(".")[2], **values}


def _is_metainfo(key: str, value: Any) -> bool:
    """Whether these are class names and colours; mmengine takes a text in their place for a file or URL to read."""
    return key == "metainfo" and isinstance(value, Mapping) and not any(isinstance(one, str) for one in value.values())


@contextmanager
def _classes(*, only_known: bool) -> Iterator[Any]:
    """mmsegmentation's search for the class of a name (LookupError if there is none), and its base of data sets."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # of missing optional packages
        provide_mmcv_ops()
        from mmseg.datasets import BaseSegDataset  # registers the other classes too
        from mmseg.registry import DATASETS

        def find(kind: str) -> Any:
            found = DATASETS.module_dict.get(kind) if only_known else DATASETS.get(kind)
            if found is None:
                raise LookupError("there is no such class")
            return found

        yield find, BaseSegDataset


def _fields_of_base(base: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    allowed = set(inspect.signature(base).parameters) - {"metainfo"}
    try:
        return _fields(_made(base, {key: value for key, value in arguments.items() if key in allowed}))
    except Exception:  # for arguments that it does not expect
        return _fields(_made(base, {}))


def _made(kind: Any, arguments: Mapping[str, Any]) -> Any:
    """An object of the class `kind` that has read no files.

    `given`: its root, folders and list file. In their place it gets an empty folder and file, since some classes
    assert that they exist.
    """

    def keep_root(self: Any, root: Any) -> None:
        self.given = {"root": root}

    def join_prefix(self: Any) -> None:
        self.given.update({"img_path": None, "seg_map_path": None, **self.data_prefix, "ann_file": self.ann_file})
        self.data_prefix = dict.fromkeys(("img_path", "seg_map_path", *self.data_prefix), folder)
        self.ann_file = str(empty) if self.ann_file else ""

    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.txt")
        empty.touch()
        # The base class joins folders to a root only if there is one.
        root = property(lambda self: folder, keep_root)
        changes = {"data_root": root, "_join_prefix": join_prefix, "full_init": lambda self: None}
        return type(kind.__name__, (kind,), changes)(**arguments)


def _fields(made: Any) -> dict[str, Any]:
    root = made.given["root"]
    return {
        "reduce_zero_label": bool(made.reduce_zero_label),
        "label_map": made.label_map,
        "image_suffix": made.img_suffix,
        "annotation_suffix": made.seg_map_suffix,
        "image_folder": _below(made.given["img_path"], root),
        "annotation_folder": _below(made.given["seg_map_path"], root),
        "list_file": _below(made.given["ann_file"], root) or None,
    }


def _below(path: Any, root: Any) -> str:
    """`path` relative to the data set's root, with slashes; empty if it is elsewhere."""
    text, root = str(path or ""), str(root or "")
    if posixpath.isabs(text):
        text = posixpath.relpath(text, root) if posixpath.isabs(root) else ""
    text = posixpath.normpath(text) if text else ""
    return "" if text == "." or ".." in text.split("/") else text


def _checked(values: dict[str, Any], name: str) -> Annotations:
    """Annotations without the values that a card does not allow, each of which is logged."""
    try:
        return Annotations(**values)
    except ValidationError as error:
        for field, words in {str(fault["loc"][0]): fault["msg"] for fault in error.errors()}.items():
            log.warning("%s: a card cannot hold the %s %.100r: %s", name, field, values.pop(field), words)
        return Annotations(**values)
