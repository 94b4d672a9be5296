"""`doctor`: what is installed against what pyproject.toml requires, devices, instruction sets, and what to do."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino
import pytest
from conftest import Cli
from packaging.requirements import Requirement

from pspnet_convert import __version__
from pspnet_convert.commands.doctor import diagnosis
from pspnet_convert.commands.doctor.packages import required_packages
from pspnet_convert.errors import DependencyError
from pspnet_convert.processor import this_processor

ROOT = Path(__file__).parent.parent
OWN = ("click>=8.1", "openvino>=2024.6; extra == 'openvino'", "openvino-dev==2024.6.*; extra == 'mo'")


def install(site: Path, name: str, version: str, requires: Sequence[str] = (), python: str = ">=3.11") -> None:
    """The metadata of a distribution in `site`, as pip writes them."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    extras = {line.split("'")[1] for line in requires if "extra ==" in line}
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}"]
    lines += [f"Requires-Dist: {one}" for one in requires] + [f"Provides-Extra: {one}" for one in sorted(extras)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "RECORD").write_text("")


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for packages before all others."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_here_run_works(cli: Cli) -> None:
    result = cli("doctor", "--json")
    assert result.exit_code == 0, result.stderr
    told = result.json()
    assert told["run_works"] and told["problems"] == []
    assert (told["tool"], told["python"]["executable"]) == (__version__, sys.executable)
    assert told["processor"] == this_processor().as_dict()
    core = openvino.Core()
    assert [one["name"] for one in told["devices"]] == core.available_devices
    cpu = next(one for one in told["devices"] if one["name"] == "CPU")
    assert cpu["full_name"] == core.get_property("CPU", "FULL_DEVICE_NAME")
    assert "FP32" in cpu["precisions"]
    assert cpu["default"] == core.get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def test_all_that_pyproject_requires_is_looked_at(cli: Cli) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {key: lines for key, lines in project["optional-dependencies"].items() if key not in ("test", "train")}
    wanted = {(Requirement(line).name, extra) for extra, lines in extras.items() for line in lines}
    wanted |= {(Requirement(line).name, None) for line in project["dependencies"]}
    found = {(one["name"], one["extra"]): one for one in cli("doctor", "--json").json()["packages"]}
    assert wanted == set(found)
    assert {found[key]["state"] for key in found if key[1] is None} == {"ok"}
    shown = cli("doctor").stdout
    assert all(name in shown for name, _ in found)
    assert shown.endswith("run works here\n")


def test_it_imports_nothing_slow() -> None:
    code = (
        "import sys; from pspnet_convert.commands.doctor.diagnosis import diagnose; assert not diagnose().problems;"
        "print([name for name in ('torch', 'mmseg', 'onnx', 'onnxruntime', 'nncf', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_version_out_of_range(cli: Cli, first: Path) -> None:
    install(first, "torch", "2.1.0")
    result = cli("doctor", "--json")
    assert result.exit_code == 14
    assert result.error.endswith(
        "run does not work here: torch 2.1.0 is installed, torch>=2.10 is needed. pip install 'torch>=2.10'"
    )
    told = result.json()  # one document
    assert not told["run_works"]
    (problem,) = told["problems"]
    assert problem["command"] == "pip install 'torch>=2.10'"
    (torch,) = [one for one in told["packages"] if one["name"] == "torch"]
    assert (torch["installed"], torch["needed"], torch["state"]) == ("2.1.0", ">=2.10", "wrong version")
    assert "wrong version" in cli("doctor").stdout


def test_a_package_that_is_missing(cli: Cli, first: Path) -> None:
    install(first, "pspnet-convert", "9.9", [*OWN, "no-such-package>=1"])
    result = cli("doctor")
    assert result.exit_code == 14
    assert "run does not work here: no-such-package is not installed" in result.error
    assert "needed for run" in result.stdout and "pip install 'no-such-package>=1'" in result.stdout
    assert "run works here" not in result.stdout


def test_no_front_end(cli: Cli, first: Path) -> None:
    install(first, "pspnet-convert", "9.9", ["openvino>=2099; extra == 'openvino'", "openvino-dev==1; extra == 'mo'"])
    result = cli("doctor")
    assert result.exit_code == 14
    assert "is installed, openvino>=2099 is needed. pip install 'pspnet-convert[openvino]'" in result.error


def test_another_python(cli: Cli, first: Path) -> None:
    install(first, "pspnet-convert", "9.9", OWN, python=">=3.99")
    result = cli("doctor")
    assert result.exit_code == 14
    assert ">=3.99 is needed" in result.error


def test_an_extra_that_is_missing_is_no_failure(cli: Cli, first: Path) -> None:
    install(first, "pspnet-convert", "9.9", [*OWN, "no-such-package>=1; extra == 'cluster'"])
    result = cli("doctor", "--json")
    assert result.exit_code == 0, result.stderr
    found = {one["for"]: one for one in result.json()["missing"]}
    assert found["evaluate --ray"] == {
        "for": "evaluate --ray",
        "problem": "no-such-package is not installed",
        "command": "pip install 'pspnet-convert[cluster]'",
    }
    assert "not installed, and not needed for run" in cli("doctor").stdout


def test_nncf_and_openvino_that_do_not_go_together(cli: Cli, first: Path) -> None:
    install(first, "openvino", "2024.6.0")
    install(first, "nncf", "3.4.0")
    result = cli("doctor", "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = [one for one in result.json()["missing"] if "nncf" in one["problem"]]
    assert found["problem"] == "nncf 3.4.0 does not work with openvino 2024.6.0"
    assert "pip install 'nncf<2.17'" in found["command"]


def test_an_openvino_that_does_not_start(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no plugins.xml")

    monkeypatch.setattr(openvino, "Core", broken)
    result = cli("doctor")
    assert result.exit_code == 14
    assert "openvino does not start: no plugins.xml" in result.error


def test_a_copy_that_is_not_installed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    result = cli("doctor")
    assert result.exit_code == 14
    assert "pspnet-convert is not installed as a package" in result.error
    with pytest.raises(DependencyError):
        diagnosis.diagnose()


def test_the_forks_versions_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the full mmcv may be in mmcv-lite's place, in the same versions."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    own = ["mmsegmentation<1.3,>=1.2.2", "mmcv-lite<2.2,>=2.0.0"]
    install(tmp_path, "pspnet-convert", "9.9", own)
    install(tmp_path, "onedl-mmsegmentation", "1.4.2")
    (tmp_path / "onedl_mmsegmentation-1.4.2.dist-info" / "top_level.txt").write_text("mmseg\n")
    install(tmp_path, "mmcv", "2.2.0")
    (tmp_path / "mmcv-2.2.0.dist-info" / "top_level.txt").write_text("mmcv\n")
    found = {one.name: (one.provider, one.installed, one.state) for one in required_packages()}
    assert found == {
        "mmsegmentation": ("onedl-mmsegmentation", "1.4.2", "ok"),
        "mmcv-lite": ("mmcv", "2.2.0", "wrong version"),
    }
