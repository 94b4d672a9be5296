"""The packages that this tool requires, in which versions, and which of them are installed.

All is read from the packages' metadata: none is imported.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any, Literal

from packaging.requirements import Requirement

from pspnet_convert.errors import DependencyError
from pspnet_convert.package_versions import providers

State = Literal["ok", "missing", "wrong version"]
_OF_DEVELOPERS = ("test", "train")  # extras
# Where another distribution may be in a requirement's place, the package that both have.
_PACKAGES = {"mmcv-lite": "mmcv", "mmsegmentation": "mmseg"}
_FORK = "onedl-"  # its versions are its own: docs/install.md


@dataclass(frozen=True)
class Package:
    """A package that is required, by `extra` or (None) always. `needed`: the versions, as pip writes them.

    `installed`: the version that is there. `provider`: the distribution that it comes from, if it has another name.
    """

    name: str
    needed: str
    extra: str | None
    installed: str | None
    provider: str | None
    state: State

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.name}{self.needed}"

    @property
    def problem(self) -> str:
        """What is wrong with it, in words."""
        if self.state == "missing":
            return f"{self.name} is not installed"
        return f"{self.provider or self.name} {self.installed} is installed, {self.requirement} is needed"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def required_packages() -> list[Package]:
    """What pyproject.toml requires, without the extras for developers; first what is always needed.

    DependencyError if this tool is not installed as a package: then nothing says what it requires.
    """
    own = own_distribution()
    extras = [None, *(name for name in own.metadata.get_all("Provides-Extra") or () if name not in _OF_DEVELOPERS)]
    requirements = [Requirement(line) for line in own.requires or ()]
    return [_package(one, extra) for extra in extras for one in requirements if _is_of(one, extra)]


def own_distribution() -> Distribution:
    """The metadata of this tool, as it is installed."""
    try:
        return distribution("pspnet-convert")
    except PackageNotFoundError as error:
        raise DependencyError(
            "pspnet-convert is not installed as a package, so that its requirements are not known",
            "Run pip install in its checkout.",
        ) from error


def _is_of(requirement: Requirement, extra: str | None) -> bool:
    if requirement.marker is None:
        return extra is None
    always = requirement.marker.evaluate({"extra": ""})
    return always if extra is None else not always and requirement.marker.evaluate({"extra": extra})


def _package(requirement: Requirement, extra: str | None) -> Package:
    name, needed = requirement.name, str(requirement.specifier)
    found = providers(_PACKAGES.get(name, name))
    if not found:
        return Package(name, needed, extra, None, None, "missing")
    provider = name if name in found else found[0]
    version = distribution(provider).version
    is_right = provider.startswith(_FORK) or requirement.specifier.contains(version, prereleases=True)
    other = None if provider == name else provider
    return Package(name, needed, extra, version, other, "ok" if is_right else "wrong version")
