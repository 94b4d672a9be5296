"""Read the plain values and tensors in a checkpoint with torch's restricted reader, after checking what it asks for.

Refuses other formats, names outside a short list, and files that would grow in memory.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pspnet_convert.errors import CheckpointError, first_line

ADVICE = "Give a PyTorch checkpoint of this card's network; `pspnet-convert download` gets the right one."
_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"
_LEGACY_PICKLES = 5  # magic number, version, system, the values, the storages' keys
_MAX_STEPS = 1_000_000  # of a pickle; a checkpoint with its optimizer takes about ten thousand
_SPARE_MEMORY = 512 * 2**20
_NUMBERS = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
# torch.load(weights_only=True) would also build sparse, quantized and meta tensors, subclasses, and buffers of any
# size, and call functions that the file names: a state dict needs none of it.
_TENSORS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
    *(f"torch.{number}Storage" for number in _NUMBERS),
}
# What mmengine >= 0.1 saves with the weights (message_hub: log buffers of NumPy arrays). Each name becomes _Inert,
# never the real object: builtins.getattr, which HistoryBuffer's pickle asks for, would let the file run any code.
_READ_AS_INERT = {
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
}
# Makes the bytes of those arrays in pickle protocol 2. torch allows it itself, so it cannot be made inert.
_BYTES = {"_codecs.encode"}


class _Inert:
    """Replaces an object of mmengine's logs, which the weights do not need. It keeps nothing and does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_values(path: Path) -> Any:
    """What torch.save wrote (zip or legacy format; a zip is memory-mapped): containers, texts, numbers, tensors.

    Each tensor is dense, on the CPU. Raises CheckpointError if the file is not a checkpoint, is damaged, asks for
    anything else, or takes more memory than three times its size and half a gigabyte (that only on Linux).
    """
    is_zip = _is_zip(path)
    _refuse_unknown_names(path, is_zip)
    import torch

    inert: list[Any] = [(_Inert, name) for name in sorted(_READ_AS_INERT)]
    try:
        with torch.serialization.safe_globals(inert), _limited_memory(path):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    # torch.load does not document what it raises for a broken file; whatever it is, the file is at fault.
    except Exception as error:
        raise _damaged(path, error) from error


def _is_zip(path: Path) -> bool:
    """Whether the file is a zip; CheckpointError if it is neither that nor a pickle."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}", ADVICE) from error
    if head.startswith(_ZIP_MAGIC):
        return True
    if not head.startswith(_PICKLE_MAGIC):
        raise CheckpointError(f"{path}: is {_looks_like(head)}, not a PyTorch checkpoint", ADVICE)
    return False


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


def _refuse_unknown_names(path: Path, is_zip: bool) -> None:
    allowed = _TENSORS | _READ_AS_INERT | _BYTES
    try:
        with _zip_pickle(path) if is_zip else path.open("rb") as pickles:
            for name in _names(pickles, 1 if is_zip else _LEGACY_PICKLES):
                if name not in allowed:
                    raise CheckpointError(
                        f"{path}: refused: its pickle asks for {name[:100]}, which is neither a tensor nor plain data",
                        "Do not load it elsewhere either, unless you trust who made it.",
                    )
    # zipfile and pickletools do not document what they raise for damaged input either.
    except CheckpointError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


@contextmanager
def _zip_pickle(path: Path) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{path}: is a zip file, but not one that torch.save wrote", ADVICE)
        # torch.save never compresses; a compressed entry could grow without bound when read.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path}: has compressed entries, which torch.save does not write", ADVICE)
        with archive.open(pickles[0]) as pickled:
            yield pickled


def _names(pickles: IO[bytes], count: int) -> Iterator[str]:
    """The names that `count` pickles in a row ask for; ValueError after _MAX_STEPS steps."""
    steps = 0
    for _ in range(count):
        for opcode, argument, _ in pickletools.genops(pickles):
            steps += 1
            if steps > _MAX_STEPS:
                raise ValueError(f"its pickle takes more than {_MAX_STEPS} steps")
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                yield f"{'builtins' if module == '__builtin__' else module}.{name}"


@contextmanager
def _limited_memory(path: Path) -> Iterator[None]:
    """Limit the growth of the process's address space in the block to what a good file of this size needs.

    A pickle can build much from little (a list of lists of lists ..., a text encoded again and again), and only
    running it shows how much. Systems without RLIMIT_AS have no limit.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 3 * path.stat().st_size + _SPARE_MEMORY
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: no checkpoint, or a damaged or truncated one: {first_line(error)}", ADVICE)
