"""Which distributions a package comes from, in folders as pip makes them and in this environment."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from pspnet_convert import __version__
from pspnet_convert.package_versions import providers, versions


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the only one that packages are searched in."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr("sys.path", [str(folder)])
    return folder


def install(
    site: Path, name: str, version: str, package: str, requires: Sequence[str] = (), top_level: bool = True
) -> None:
    """A distribution with one package, as pip installs it; some build tools write no top_level.txt."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "RECORD").write_text(f"{package}/__init__.py,,\n{package}/version.py,,\n{info.name}/METADATA,,\n")
    if top_level:
        (info / "top_level.txt").write_text(f"{package}\n")


def test_a_package_is_named_by_the_distribution_that_has_it(site: Path) -> None:
    install(site, "mmsegmentation", "1.2.2", "mmseg")
    assert versions("mmseg") == {"pspnet-convert": __version__, "mmsegmentation": "1.2.2"}


@pytest.mark.parametrize("name", ["mmcv", "mmcv-lite", "onedl-mmcv"])
def test_mmcv_comes_from_any_of_three(site: Path, name: str) -> None:
    install(site, name, "2.1.0", "mmcv")
    assert providers("mmcv") == (name,)


def test_the_forks_packages_are_named(site: Path) -> None:
    install(site, "onedl-mmsegmentation", "1.4.2", "mmseg", ["onedl-mmengine>=0.10"])
    install(site, "onedl-mmcv", "2.3.6", "mmcv", ["onedl-mmengine>=0.10"])
    install(site, "onedl-mmengine", "0.10.12", "mmengine", top_level=False)
    found = versions("mmseg", "mmengine", "mmcv")
    assert list(found.items())[1:] == [
        ("onedl-mmsegmentation", "1.4.2"),
        ("onedl-mmengine", "0.10.12"),
        ("onedl-mmcv", "2.3.6"),
    ]


def test_a_fork_installed_over_the_original_is_named_as_well(site: Path) -> None:
    install(site, "mmengine", "0.10.7", "mmengine")
    install(site, "onedl-mmengine", "0.10.12", "mmengine", top_level=False)
    assert providers("mmengine") == ("mmengine", "onedl-mmengine")


def test_two_that_share_a_package_are_both_named(site: Path) -> None:
    install(site, "opencv-python", "4.14.0.94", "cv2")
    install(site, "opencv-python-headless", "4.13.0.92", "cv2")
    found = versions("cv2")
    assert (found["opencv-python"], found["opencv-python-headless"]) == ("4.14.0.94", "4.13.0.92")


def test_one_that_adds_to_anothers_package_does_not_provide_it(site: Path) -> None:
    install(site, "openvino", "2024.6.0", "openvino", ["numpy<2.2"])
    install(site, "openvino-dev", "2024.6.0", "openvino", ["openvino==2024.6.0", "numpy<2"])
    assert providers("openvino") == ("openvino",)
    assert providers("openvino-dev") == ("openvino-dev",)


@pytest.mark.parametrize("written", ["Pillow", "pillow"])
def test_a_distributions_own_name_is_found_too(site: Path, written: str) -> None:
    install(site, written, "13.0.0", "PIL")
    assert versions("pillow") == {"pspnet-convert": __version__, "pillow": "13.0.0"}


def test_a_name_has_hyphens_in_any_spelling(site: Path) -> None:
    install(site, "mmcv_lite", "2.1.0", "mmcv")
    assert providers("mmcv") == ("mmcv-lite",)


def test_what_is_not_installed_is_left_out(site: Path) -> None:
    install(site, "mmsegmentation", "1.2.2", "mmseg")
    assert versions("mmcv", "no-such-distribution") == {"pspnet-convert": __version__}


def test_of_two_versions_the_first_on_the_path_counts(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = site.parent / "users"
    install(site, "mmsegmentation", "1.2.2", "mmseg")
    install(users, "mmsegmentation", "1.2.1", "mmseg")
    monkeypatch.setattr("sys.path", [str(users), str(site)])
    assert versions("mmseg")["mmsegmentation"] == "1.2.1"


def test_a_folder_that_pip_left_behind_is_not_an_installed_version(site: Path) -> None:
    install(site, "mmsegmentation", "1.2.2", "mmseg")
    install(site, "mmsegmentation", "1.2.1", "mmseg")
    (site / "mmsegmentation-1.2.1.dist-info").rename(site / "~msegmentation-1.2.1.dist-info")
    assert versions("mmseg")["mmsegmentation"] == "1.2.2"


def test_a_file_list_that_is_missing_provides_nothing(site: Path) -> None:
    install(site, "mmsegmentation", "1.2.2", "mmseg", top_level=False)
    (site / "mmsegmentation-1.2.2.dist-info" / "RECORD").unlink()
    assert providers("mmseg") == ()
    assert providers("mmsegmentation") == ("mmsegmentation",)


def test_in_this_environment_packages_and_their_distributions_names_give_the_same() -> None:
    named = ("torch", "mmsegmentation", "mmengine", "mmcv", "mmcv-lite", "onedl-mmsegmentation", "onedl-mmengine")
    named += ("onedl-mmcv", "numpy", "openvino", "pillow", "opencv-python", "opencv-python-headless", "onnx-ir")
    by_name = {}
    for name in named:
        try:
            by_name[name] = version(name)
        except PackageNotFoundError:
            continue
    by_package = versions("torch", "mmseg", "mmengine", "mmcv", "numpy", "openvino", "PIL", "cv2", "onnx_ir")
    assert by_package == {"pspnet-convert": __version__, **by_name}
