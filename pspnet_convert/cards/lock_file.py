"""The lock file of an output folder: sizes and whole SHA-256s of checkpoints for which a card has a few digits only.

Written on the first download and meant to be committed: later downloads must match it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.card_model import FILE_NAME
from pspnet_convert.errors import CardError, DigestError, first_line
from pspnet_convert.files import write_atomically
from pspnet_convert.forms import MODEL_NAME
from pspnet_convert.workspace import folder_lock

LOCK_FILE = "pspnet-convert.lock"
_MAX_BYTES = 1 << 20
_TEMPORARY = ".pinning-"  # not TEMPORARY: folders of that name may belong to other processes
_ADVICE = "Restore it from version control, or remove it: the next download is then pinned."
log = logging.getLogger(__name__)


class Pin(BaseModel):
    """The file `file`: its SHA-256 in lower-case hex, its size in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: str = Field(pattern=FILE_NAME, max_length=200)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(gt=0, lt=2**40)


class _Lock(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    lock_version: Literal[1] = 1
    checkpoints: dict[Annotated[str, Field(pattern=MODEL_NAME, max_length=100)], Pin] = {}


def pinned(card: ModelCard, output_dir: Path) -> ModelCard:
    """The card with its size and SHA-256 from the lock file in `output_dir`; unchanged if that has none for it.

    Raises CardError if the lock file cannot be read or pins another file name, DigestError if it contradicts the
    card's digest or size.
    """
    path = output_dir / LOCK_FILE
    pin = _read(path).checkpoints.get(card.name)
    return card if pin is None else _with_pin(card, pin, path)


def write_pin(card: ModelCard, output_dir: Path, sha256: str, size: int) -> ModelCard:
    """Pin the card's checkpoint to `sha256` and `size` (bytes) in the lock file of `output_dir`; the pinned card.

    What another process has pinned in the meantime stays: DigestError if that is another file for this model. Raises
    what `pinned` raises, and WorkspaceError if the lock file cannot be written.
    """
    path = output_dir / LOCK_FILE
    with folder_lock(output_dir / "public"):
        for stale in output_dir.glob(f"{_TEMPORARY}*"):  # left by a run that was killed
            shutil.rmtree(stale, ignore_errors=True)
        lock = _read(path)
        found = Pin(file=card.checkpoint.name, sha256=sha256, size=size)
        pin = lock.checkpoints.get(card.name, found)
        if pin != found:
            raise DigestError(
                f"{path}: {card.name} was pinned to sha256 {pin.sha256} while {sha256} was downloaded", _ADVICE
            )
        checkpoints = {name: one.model_dump() for name, one in {**lock.checkpoints, card.name: pin}.items()}
        if card.name not in lock.checkpoints:
            content = json.dumps({"lock_version": 1, "checkpoints": dict(sorted(checkpoints.items()))}, indent=2)
            with write_atomically(path, prefix=_TEMPORARY) as (temporary,):
                temporary.write_text(content + "\n", encoding="utf-8")
            log.info("%s: pinned to sha256 %s in %s", card.name, sha256, path)
    return _with_pin(card, pin, path)


def _with_pin(card: ModelCard, pin: Pin, path: Path) -> ModelCard:
    file = card.checkpoint
    if pin.file != file.name:
        raise CardError(
            f"{path}: pins {card.name} to the file {pin.file}, the card names {file.name}",
            "If the card is right, remove the model from the lock file.",
        )
    if not file.accepts(pin.sha256) or file.size not in (None, pin.size):
        raise DigestError(
            f"{path}: pins {card.name} to sha256 {pin.sha256} of {pin.size} bytes, the card says "
            f"{file.digest}{f' of {file.size} bytes' if file.pinned else '...'}",
            "If the card is right, remove the model from the lock file.",
        )
    return card.model_copy(
        update={"files": [file.model_copy(update={"size": pin.size, "sha256": pin.sha256})]},
    )


def _read(path: Path) -> _Lock:
    if path.exists() and not path.is_file():
        raise CardError(f"{path}: is no file", _ADVICE)  # reading a pipe would wait for ever
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise CardError(f"{path}: is too large for a lock file (more than {_MAX_BYTES} bytes)", _ADVICE)
        return _Lock.model_validate(json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys))
    except FileNotFoundError:
        return _Lock()
    except OSError as error:
        raise CardError(f"{path}: cannot be read: {error.strerror or error}", _ADVICE) from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])[:200]
        raise CardError(f"{path}: {place + ': ' if place else ''}{fault['msg']}", _ADVICE) from error
    except (ValueError, RecursionError) as error:
        raise CardError(f"{path}: is no lock file: {first_line(error)}", _ADVICE) from error


def _unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; ValueError for a repeated key (as after a bad merge), where json takes the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key[:100]!r} occurs twice")
        found[key] = value
    return found
