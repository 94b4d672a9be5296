"""Open a checkpoint file: torch.save's zip and legacy formats, and safetensors. No code in it is run."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import CheckpointError, first_line
from pspnet_convert.pytorch.safe_unpickle import LeftOut, Name, described, unpickle
from pspnet_convert.pytorch.stored_tensor import Storage, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

ADVICE = "Give the whole file that the training saved: .pth, .pt or .safetensors."
_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_MAX_JSON = 2**20  # characters of a text in safetensors' header


@dataclass(frozen=True)
class Content:
    """What a checkpoint file holds: plain data, and what safe_unpickle makes of the rest.

    `numbers_of` reads a storage, as a tensor of one dimension.
    """

    values: Any
    numbers_of: Callable[[Storage], Tensor]


def open_checkpoint(path: Path) -> Content:
    """What is in the file; no tensor is read yet. CheckpointError if it is no checkpoint, or is damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}", ADVICE) from error
    try:
        if head.startswith(_ZIP_MAGIC):
            return _open_zip(path)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
            return _open_safetensors(path)
        if head.startswith(_PICKLE_MAGIC):
            return _open_legacy(path)
    except CheckpointError:
        raise
    # zipfile, pickletools and safetensors do not document what they raise for damaged input.
    except Exception as error:
        raise damaged(path, error) from error
    raise CheckpointError(f"{path}: is {_looks_like(head)}, not a PyTorch checkpoint", ADVICE)


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that cannot be read to its end."""
    return CheckpointError(f"{path}: no checkpoint, or a damaged or truncated one: {first_line(error)}", ADVICE)


def _looks_like(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "an HTML or XML page"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return "a file of an unknown format"
    printable = all(character.isprintable() or character.isspace() for character in text)
    return "a text file" if printable else "a file of an unknown format"


# torch.save


@dataclass(frozen=True)
class _Place:
    """Where a storage is in the file, in bytes."""

    start: int
    size: int


class _Storages:
    """Reads storages of a file, each once. An undamaged file is mapped, so that it takes no memory."""

    def __init__(self, path: Path, places: Mapping[str, _Place], *, byteswap: bool = False) -> None:
        self._path, self._places, self._byteswap = path, places, byteswap
        self._whole: Tensor | None = None
        self._read: dict[tuple[str, str], Tensor] = {}

    def __call__(self, storage: Storage) -> Tensor:
        known = self._read.get((storage.key, storage.kind))
        if known is None:
            known = self._read[storage.key, storage.kind] = self._numbers(storage)
        return known

    def _numbers(self, storage: Storage) -> Tensor:
        import torch

        if self._whole is None:
            size = self._path.stat().st_size
            self._whole = torch.from_file(str(self._path), shared=False, size=size, dtype=torch.uint8)
        place = self._places.get(storage.key)
        if place is None or place.start + place.size > len(self._whole):
            raise ValueError(f"the storage {storage.key[:100]} is not in the file")
        dtype = getattr(torch, str(storage.dtype))
        count = place.size // storage.item_size
        if count < storage.start + storage.count:
            raise ValueError(f"the storage {storage.key[:100]} has {count} numbers, not {storage.count}")
        found = self._whole[place.start : place.start + count * storage.item_size]
        if self._byteswap or place.start % storage.item_size:  # the legacy format aligns nothing
            found = found.clone()
        if self._byteswap:
            found.untyped_storage().byteswap(dtype)
        return found.view(dtype)


class _PersistentIds:
    """The values of a pickle's persistent ids: storages, and the classes of a whole model. Remembers the storages."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}

    def __call__(self, identifier: Any) -> Any:
        match identifier:
            case ("module", Name() as kind, *_):
                return kind
            case ("storage", Name(text=text), str() as key, _, int() as count, *view):
                whole = Storage(text.rpartition(".")[2], key, count)
                self.storages.setdefault(key, whole)
                match view:
                    case [] | [None]:
                        return whole
                    case [(_, int() as start, int() as part)] if start >= 0 and part >= 0:
                        return Storage(whole.kind, key, part, start)  # torch before 0.4 saved views of storages
        raise ValueError(f"its pickle has a persistent id that is {described(identifier)}, not a storage")


def _open_zip(path: Path) -> Content:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{path}: is a zip file, but not one that torch.save wrote", ADVICE)
        # torch.save never compresses; a compressed entry could grow without bound when read.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError(f"{path}: has compressed entries, which torch.save does not write", ADVICE)
        folder = pickles[0].filename.removesuffix("data.pkl")
        persistent = _PersistentIds()
        values = unpickle(BytesIO(archive.read(pickles[0])), persistent)
        order = archive.read(entries[f"{folder}byteorder"]) if f"{folder}byteorder" in entries else b"little"
        if order not in (b"little", b"big"):
            raise CheckpointError(f"{path}: its byteorder is {order[:20]!r}, neither little nor big", ADVICE)
    named = {key: entries.get(f"{folder}data/{key}") for key in persistent.storages}
    with path.open("rb") as file:
        places = {key: _place_of(file, entry) for key, entry in named.items() if entry is not None}
    return Content(values, _Storages(path, places, byteswap=order.decode() != sys.byteorder))


def _place_of(file: Any, entry: zipfile.ZipInfo) -> _Place:
    """Where the entry's bytes are. They follow its own header; the texts there may be longer than in the directory."""
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(_ZIP_MAGIC):
        raise ValueError("an entry of the zip file is not where its directory says")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return _Place(entry.header_offset + 30 + lengths, entry.file_size)


def _open_legacy(path: Path) -> Content:
    """Five pickles (magic number, version, system, values, the storages' keys), then the storages, each with its size.

    torch always writes this format little-endian.
    """
    persistent = _PersistentIds()
    with path.open("rb") as file:
        magic = unpickle(file, persistent)
        if magic != _LEGACY_MAGIC:
            raise ValueError("a pickle that torch.save did not write")
        version, _, values, keys = (unpickle(file, persistent) for _ in range(4))
        if version != _LEGACY_VERSION or not isinstance(keys, list):
            raise ValueError("its pickles are not those of torch.save")
        places, size = {}, path.stat().st_size
        for key in keys:
            storage = persistent.storages.get(key) if isinstance(key, str) else None
            count = int.from_bytes(file.read(8), "little", signed=True)
            if storage is None or count != storage.count:
                raise ValueError("its list of storages is not that of its values")
            place = places[storage.key] = _Place(file.tell(), count * storage.item_size)
            if place.start + place.size > size:
                raise ValueError("it ends before its last tensor")
            file.seek(place.start + place.size)
    return Content(values, _Storages(path, places, byteswap=sys.byteorder != "little"))


# safetensors


def _open_safetensors(path: Path) -> Content:
    """The tensors, and the header's texts as `meta`: those that are JSON as their values."""
    from safetensors import safe_open

    file = safe_open(path, framework="pt")
    tensors: dict[str, Any] = {}
    for name in file.keys():  # noqa: SIM118 -- it is no dictionary
        stored = file.get_slice(name)
        kind = _SAFETENSORS.get(stored.get_dtype())
        shape = tuple(stored.get_shape())
        loaded = StoredTensor(kind, shape, partial(file.get_tensor, name)) if kind else None
        tensors[name] = loaded or LeftOut(f"a tensor of {stored.get_dtype()}")
    meta = {key: _from_json(text) for key, text in (file.metadata() or {}).items()}
    return Content({"state_dict": tensors, "meta": meta}, _no_storage)


def _from_json(text: str) -> Any:
    """The value of a text that is JSON; else the text."""
    if len(text) > _MAX_JSON or not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _no_storage(storage: Storage) -> Tensor:
    raise ValueError(f"a safetensors file has no storage {storage.key[:100]}")
