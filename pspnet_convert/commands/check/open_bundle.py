"""Open a bundle that may be hostile: an archive is unpacked into a temporary folder, a folder is read as it is."""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pspnet_convert.bundle_names import PROVENANCE
from pspnet_convert.errors import ArtifactError, first_line
from pspnet_convert.files import temporary_folder, writing

_CHUNK = 1 << 20


@dataclass(frozen=True)
class OpenBundle:
    """The `folder` with a bundle's files, and the path by which it was `named`."""

    folder: Path
    named: Path

    @property
    def files(self) -> list[str]:
        """The names of all files, with slashes; ArtifactError for a link or a special file."""
        names = []
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ArtifactError(f"{self.named / name}: is a link or a special file, which no bundle has")
            if path.is_file():
                names.append(name)
        return names


@contextmanager
def open_bundle(path: Path) -> Iterator[OpenBundle]:
    """The bundle's files, for as long as the block lasts.

    ArtifactError for what is no bundle, and for links, devices, and names that lead out of the folder; WorkspaceError
    where the disk refuses.
    """
    if path.is_dir():
        yield _with_provenance(path, path)
        return
    with temporary_folder(Path(tempfile.gettempdir())) as folder:
        _unpack(path, folder)
        inside = sorted(folder.iterdir())
        yield _with_provenance(inside[0] if len(inside) == 1 and inside[0].is_dir() else folder, path)


def _with_provenance(folder: Path, named: Path) -> OpenBundle:
    if not (folder / PROVENANCE).is_file():
        advice = "Give an archive that `pspnet-convert bundle` wrote, or the folder that it unpacks to."
        raise ArtifactError(f"{named}: is no bundle: it has no {PROVENANCE}", advice)
    return OpenBundle(folder, named)


def _unpack(path: Path, folder: Path) -> None:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                _unpack_file(archive, member, path, folder)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: there is no such file or folder") from error
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ArtifactError(f"{path}: cannot be unpacked: {first_line(error)}") from error


def _unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, folder: Path) -> None:
    name = PurePosixPath(member.name)
    leads_out = name.is_absolute() or ".." in name.parts
    if leads_out or not (member.isreg() or member.isdir()):
        raise ArtifactError(f"{path}: {member.name} is a link or a special file, or leads out of the folder")
    if member.isdir():
        return
    target = folder / name
    if target.exists():
        raise ArtifactError(f"{path}: has {member.name} twice")
    stream = archive.extractfile(member)
    assert stream is not None, "it is a regular file"
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("wb")
    with stream, file:
        while chunk := stream.read(_CHUNK):
            with writing(target):
                file.write(chunk)
