"""Which installed distributions a Python package comes from, and their versions.

One package can come from several: `mmcv` from mmcv, mmcv-lite or onedl-mmcv, `cv2` from opencv-python or
opencv-python-headless.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions

from pspnet_convert import __version__


def versions(*names: str) -> dict[str, str]:
    """The installed versions of this tool and of the distributions of `names`, as `providers` finds them."""
    found = {"pspnet-convert": __version__}
    for name in names:
        found.update((provider, distribution(provider).version) for provider in providers(name))
    return found


def providers(name: str) -> tuple[str, ...]:
    """The installed distributions with this name, or that provide the package `name`; may be empty.

    `name` is a distribution's (`pillow`) or a package's (`mmseg`). A distribution that requires another of those found
    is left out: it adds modules to the other's package (openvino-dev to `openvino`) and does not replace it.
    """
    return _providers(name, tuple(sys.path))


@cache
def _providers(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
    serving = [one.name for one, packages in _packages(path) if name in packages]
    # Looked up by name once more, since the same distribution can be on the path twice: the first one counts.
    found = {_normal(one.name): one for one in _installed([name, *serving])}
    return tuple(sorted(own for own, one in found.items() if not _requires(one) & (found.keys() - {own})))


@cache
def _packages(path: tuple[str, ...]) -> list[tuple[Distribution, frozenset[str]]]:
    """All distributions on `path`, each with its top-level packages.

    importlib.metadata.packages_distributions() knows the same, and takes five times as long to say it.
    """
    return [(one, _top_level(one)) for one in distributions(path=list(path))]


def _top_level(one: Distribution) -> frozenset[str]:
    """By top_level.txt, which setuptools writes, or else by the list of files."""
    stated = one.read_text("top_level.txt")
    if stated is not None:
        return frozenset(stated.split())
    files = (one.read_text("RECORD") or "").splitlines()
    return frozenset(re.split(r"[/.,]", file, maxsplit=1)[0] for file in files)


def _installed(names: Iterable[str]) -> list[Distribution]:
    found = []
    for name in names:
        try:
            found.append(distribution(name))
        except PackageNotFoundError:
            continue
    return found


def _requires(one: Distribution) -> set[str]:
    required = (re.match(r"[\w.-]+", requirement) for requirement in one.requires or ())
    return {_normal(name.group()) for name in required if name}


def _normal(name: str) -> str:
    """A distribution's name as package indexes write it: `Jinja2` is `jinja2`, `mmcv_lite` is `mmcv-lite`."""
    return re.sub(r"[-_.]+", "-", name).lower()
