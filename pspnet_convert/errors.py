"""The errors that a user can meet, each class with its exit code.

A message is one line that says what was wrong and where; `advice` says what to do about it.
"""

from __future__ import annotations

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors that more disk space avoids


class ConvertError(Exception):
    """Base of every error that the tool raises on purpose; `exit_code` is what the process returns."""

    exit_code = 1

    def __init__(self, what: str, advice: str | None = None) -> None:
        self.what = printable(what)
        super().__init__(self.what)
        self.advice = advice


def printable(text: str) -> str:
    """`text` in one line; control characters, and what UTF-8 cannot encode (lone surrogates), become escapes."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or the name of its class if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """`number` with its noun; `nouns` is the plural, if it is not made by an s."""
    return f"{number} {noun if number == 1 else nouns or f'{noun}s'}"


class OptionError(ConvertError, ValueError):
    """An option that is wrong, or does not go with the others."""

    exit_code = 2


class CardError(ConvertError):
    """A `model.yml` or config that cannot be read, or says something that it must not."""

    exit_code = 3


class DownloadError(ConvertError):
    """No source gave the file."""

    exit_code = 4


class DigestError(ConvertError):
    """A file is not the one that the card or the manifest names."""

    exit_code = 5


class CheckpointError(ConvertError):
    """A checkpoint that is unreadable, unsafe, or of another network."""

    exit_code = 6


class ExportError(ConvertError):
    """The network did not become ONNX."""

    exit_code = 7


class ConversionError(ConvertError):
    """The front-end did not turn the ONNX into IR."""

    exit_code = 8


class MismatchError(ConvertError):
    """Verification ran, and a converted model is wrong."""

    exit_code = 9


class InconclusiveError(ConvertError):
    """Verification ran on inputs that could not have shown a fault."""

    exit_code = 10


class ArtifactError(ConvertError):
    """An ONNX, IR or manifest that is missing or unreadable, or does not fit the card where it must."""

    exit_code = 11


class ContractError(ArtifactError):
    """A readable ONNX or IR with other names, shapes, number types or layout than asked for, or too few results."""


class WorkspaceError(ConvertError):
    """A folder or file that cannot be read or written."""

    exit_code = 12


class ImageError(ConvertError):
    """An image that cannot be read as one, or does not fit the model."""

    exit_code = 13


class DependencyError(ConvertError):
    """A library that is missing, or that this tool cannot work with."""

    exit_code = 14


class DatasetError(ConvertError):
    """A data set that is missing, incomplete, or of another model."""

    exit_code = 15


class AccuracyError(ConvertError):
    """An evaluation ran, and a model is worse than allowed."""

    exit_code = 16


class ClusterError(ConvertError):
    """The Ray cluster cannot be reached, or its machines fail."""

    exit_code = 17


class QuantizationError(ConvertError):
    """NNCF did not turn the FP32 IR into INT8."""

    exit_code = 18


class DifferenceError(ConvertError):
    """A rebuild gave other files than the manifest records."""

    exit_code = 19


class UnverifiedError(ConvertError):
    """Files to be bundled that no verification has passed."""

    exit_code = 20


class SignatureError(ConvertError):
    """A bundle's signature that is missing, damaged, or not of the given key."""

    exit_code = 21
