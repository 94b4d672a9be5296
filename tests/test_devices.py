"""IRs on other devices than the CPU: which names there are, which devices, and what these really compute in.

Here are no GPU and no NPU: AUTO:CPU, HETERO:CPU and MULTI:CPU run through the same code, and two classes answer as
OpenVINO does where there are more devices.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import manifests
import numpy as np
import openvino
import pytest
import voc
from conftest import LENIENT, Cli
from PIL import Image as Picture

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify import stage as verify_stage
from pspnet_convert.commands.verify.candidates import Candidate, candidates
from pspnet_convert.device import DeviceName, is_cpu_alone, listed_in
from pspnet_convert.errors import DependencyError
from pspnet_convert.processor import this_processor
from pspnet_convert.runtimes.backends import read_ir
from pspnet_convert.runtimes.devices import device_record, find_devices, settings_on
from pspnet_convert.runtimes.images import SAMPLES
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.precision_hint import IN_F32
from pspnet_convert.runtimes.read_back import computed_in, ran_on

pytestmark = pytest.mark.openvino
THERE = openvino.Core().available_devices
needs_cpu_alone = pytest.mark.skipif(THERE != ["CPU"], reason="this machine has other devices than the CPU")
VIRTUAL = ("AUTO:CPU", "HETERO:CPU", "MULTI:CPU")


# Names


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("CPU", ("CPU",)),
        ("gpu.1", ("GPU.1",)),
        ("NPU", ("NPU",)),
        ("AUTO", ()),
        ("auto:gpu,cpu", ("GPU", "CPU")),
        ("AUTO:-GPU.1", ()),
        ("AUTO:CPU,-GPU", ("CPU",)),
        ("HETERO:GPU.1,GPU.0,CPU", ("GPU.1", "GPU.0", "CPU")),
        ("MULTI:GPU(4),CPU(2)", ("GPU", "CPU")),
    ],
)
def test_names_are_openvinos(name: str, listed: tuple[str, ...]) -> None:
    found = DeviceName().convert(name, None, None)
    assert found == name.upper()
    assert listed_in(found) == listed
    assert is_cpu_alone(found) == (set(listed) == {"CPU"})


@pytest.mark.parametrize(
    "name",
    ["", "CPU,GPU", "GPU.", "GPU.x", "AUTO:", "HETERO", "MULTI", "HETERO:-GPU", "AUTO:AUTO:CPU", "HETERO:CPU(2)", "0"],
)
def test_what_is_no_name_is_a_usage_error(cli: Cli, name: str) -> None:
    result = cli("verify", "demo", "--device", name)
    assert result.exit_code == 2
    assert f"{name!r} is no device: say CPU, GPU, GPU.1, NPU, AUTO, AUTO:GPU,CPU or HETERO:GPU,CPU" in result.stderr


# Which there are


class Core:
    """An openvino.Core of a machine with these devices: by kind, the numbers and what they can."""

    def __init__(self, **kinds: tuple[list[str], list[str]]) -> None:
        self._kinds = kinds

    @property
    def available_devices(self) -> list[str]:
        several = [f"{kind}.{one}" for kind, (numbers, _) in self._kinds.items() for one in numbers if len(numbers) > 1]
        return [*(kind for kind, (numbers, _) in self._kinds.items() if len(numbers) == 1), *several]

    def get_property(self, device: str, name: str) -> Any:
        numbers, can = self._kinds[device.partition(".")[0]]
        if name == "INFERENCE_PRECISION_HINT":
            raise RuntimeError("Unsupported property")
        return {"AVAILABLE_DEVICES": numbers, "FULL_DEVICE_NAME": f"Some {device}", "OPTIMIZATION_CAPABILITIES": can}[
            name
        ]


ALL = ["FP32", "FP16", "INT8", "EXPORT_IMPORT"]
LAPTOP: Any = Core(CPU=([""], ALL), GPU=(["0"], ALL), NPU=(["3720"], ["FP16", "INT8"]))
TWO_CARDS: Any = Core(CPU=([""], ALL), GPU=(["0", "1"], ALL))


def test_an_only_gpu_has_two_names() -> None:
    for name in ("GPU", "GPU.0"):
        assert [one.full_name for one in find_devices(LAPTOP, name)] == [f"Some {name}"]
    assert [one.name for one in find_devices(TWO_CARDS, "HETERO:GPU.1,CPU")] == ["GPU.1", "CPU"]
    assert [one.name for one in find_devices(TWO_CARDS, "AUTO")] == ["CPU", "GPU.0", "GPU.1"]


@pytest.mark.parametrize(
    ("core", "asked", "says"),
    [
        (LAPTOP, "GPU.1", "OpenVINO sees no GPU.1 here; it sees CPU (Some CPU), GPU (Some GPU), NPU (Some NPU)"),
        (LAPTOP, "AUTO:GPU.1,CPU", "sees no GPU.1 here"),
        (TWO_CARDS, "HETERO:NPU,CPU", "sees no NPU here; it sees CPU (Some CPU), GPU.0 (Some GPU.0), GPU.1 (Some"),
        (LAPTOP, "CPU.1", "sees no CPU.1 here"),
        (LAPTOP, "XPU", "sees no XPU here"),
    ],
)
def test_one_that_is_not_there_is_refused(core: Any, asked: str, says: str) -> None:
    with pytest.raises(DependencyError) as refused:
        find_devices(core, asked)
    assert says in refused.value.what


@needs_cpu_alone
def test_commands_end_with_14_and_the_list(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    dataset = voc.write(tmp_path / "data", small, [(72, 64)])
    checkpoint = ("--checkpoint", small.folder / small.checkpoint.name)
    commands: Mapping[str, tuple[object, ...]] = {
        "verify": (small.folder,),
        "evaluate": (small.folder, "--dataset", dataset),
        "quantize": (small.folder,),
        "benchmark": (small.folder, *checkpoint),
        "segment": (SAMPLES / "coffee.jpg", "--model", small.folder),
    }
    before = manifests.read(workspace / "public" / "small-standin")
    for command, arguments in commands.items():
        result = cli(command, *arguments, "-o", workspace, "--device", "NPU")
        assert result.exit_code == 14, (command, result.stderr)
        assert "--device NPU: OpenVINO sees no NPU here; it sees CPU (" in result.error
        assert "needs its driver" in result.error
    assert manifests.read(workspace / "public" / "small-standin") == before


def test_the_record_names_those_that_may_run() -> None:
    assert device_record("CPU") is None
    full_name = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    assert device_record("HETERO:CPU") == {"name": "HETERO:CPU", "devices": {"CPU": full_name}}


def test_a_cap_of_the_processor_is_for_the_cpu(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    dataset = voc.write(tmp_path / "data", small, [(72, 64)])
    more: Mapping[str, tuple[object, ...]] = {"evaluate": ("--dataset", dataset)}
    for command in ("verify", "evaluate", "quantize", "benchmark"):
        asked = (small.folder, "-o", workspace, "--device", "AUTO:CPU", "--processor", "avx2", *more.get(command, ()))
        result = cli(command, *asked)
        assert result.exit_code == 2, (command, result.stderr)
        assert "--processor is for the CPU, not for --device AUTO:CPU" in result.error


def test_an_onnx_runs_on_the_cpu(cli: Cli, small: ModelCard, workspace: Path) -> None:
    onnx = workspace / "public" / "small-standin" / "small-standin.onnx"
    result = cli("verify", small.folder, "-o", workspace, "--onnx", onnx, "--device", "AUTO:CPU")
    assert result.exit_code == 2
    assert "--device is for IRs (--ir): ONNX Runtime runs on the CPU" in result.error


# What they compute in


class Compiled:
    """An openvino.CompiledModel with these properties."""

    def __init__(self, **properties: Any) -> None:
        self._properties = properties

    def get_property(self, name: str) -> Any:
        if name not in self._properties:
            raise RuntimeError("Unsupported property")
        return self._properties[name]


def in_each(**precisions: str) -> dict[str, Any]:
    """DEVICE_PROPERTIES, with a device for each name."""
    return {
        name: {"INFERENCE_PRECISION_HINT": getattr(openvino.Type, precision)} for name, precision in precisions.items()
    }


@pytest.mark.parametrize(
    ("running", "of_devices", "expected"),
    [
        (["GPU"], in_each(GPU="f16", CPU="bf16"), "f16"),
        (["(CPU)"], in_each(GPU="f16", CPU="bf16"), "bf16"),
        (["NPU", "CPU"], in_each(NPU="f16", CPU="f32"), "f16"),
        (["GPU", "CPU"], in_each(GPU="f16", CPU="bf16"), "bf16"),
    ],
)
def test_the_coarsest_of_the_devices_that_run_counts(
    running: list[str], of_devices: dict[str, Any], expected: str
) -> None:
    compiled: Any = Compiled(EXECUTION_DEVICES=running, DEVICE_PROPERTIES=of_devices)
    assert computed_in(compiled) == expected


@pytest.mark.parametrize("more", [{}, {"DEVICE_PROPERTIES": {"XPU": {}}}])
def test_a_device_that_does_not_report_it_is_an_error(more: dict[str, Any]) -> None:
    compiled: Any = Compiled(EXECUTION_DEVICES=["XPU"], **more)
    with pytest.raises(DependencyError, match="XPU: does not report the precision that it computes in"):
        computed_in(compiled)


def test_what_a_device_cannot_do_is_not_asked_of_it() -> None:
    f32 = {**IN_F32, "PERFORMANCE_HINT": "THROUGHPUT"}
    assert settings_on(LAPTOP, "CPU", f32) == f32
    assert settings_on(LAPTOP, "GPU", f32) == f32
    assert settings_on(LAPTOP, "NPU", f32) == {"PERFORMANCE_HINT": "THROUGHPUT"}
    assert settings_on(LAPTOP, "HETERO:NPU,CPU", f32) == {"PERFORMANCE_HINT": "THROUGHPUT"}
    assert settings_on(LAPTOP, "AUTO:GPU,CPU", f32) == {**f32, "ENABLE_STARTUP_FALLBACK": False}
    assert settings_on(TWO_CARDS, "AUTO", {}) == {"ENABLE_STARTUP_FALLBACK": False}
    assert settings_on(TWO_CARDS, "AUTO:CPU", f32) == f32


def convolution() -> openvino.Model:
    ops = operations()
    image = ops.parameter([1, 16, 32, 32], np.float32)
    weights = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    found = ops.convolution(image, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
    return openvino.Model([found], [image], "convolution")


@pytest.mark.parametrize("device", ["CPU", *VIRTUAL, *(["AUTO"] if THERE == ["CPU"] else [])])
def test_f32_reaches_the_device_below(device: str) -> None:
    """By the numbers, too: with bf16, which this processor may prefer, they are others."""
    core, image = openvino.Core(), np.random.default_rng(1).standard_normal((1, 16, 32, 32)).astype(np.float32)
    expected = core.compile_model(convolution(), "CPU", IN_F32)([image])[0]
    compiled = core.compile_model(convolution(), device, settings_on(core, device, IN_F32))
    assert np.array_equal(compiled([image])[0], expected)
    assert (ran_on(compiled), computed_in(compiled)) == (["CPU"], "f32")
    default = core.compile_model(convolution(), device, settings_on(core, device, {}))
    is_f32 = np.array_equal(default([image])[0], expected)
    assert (computed_in(default) == "f32") == is_f32


@pytest.mark.parametrize("setting", [False, True])
def test_auto_takes_the_option_not_to_fall_back(setting: bool) -> None:
    """As settings_on passes it where there are more devices; OpenVINO 2026 refuses it for AUTO:CPU."""
    openvino.Core().compile_model(convolution(), "AUTO", {"ENABLE_STARTUP_FALLBACK": setting})


# Through the commands


@pytest.mark.parametrize("device", VIRTUAL)
def test_verify_on_it_passes_and_is_recorded(cli: Cli, small: ModelCard, workspace: Path, device: str) -> None:
    result = cli("verify", small.folder, "-o", workspace, "--device", device, "--json")
    assert result.exit_code == 0, result.stderr
    (stage,) = result.json()["stages"]
    assert not stage["skipped"]
    assert stage["inputs"]["device"] == device_record(device)
    rows = stage["result"]["comparisons"]
    found = {row["backend"]: (row["device"], row["ran_on"], row["computed_in"]) for row in rows}
    on_cpu, on_device = ("CPU", "CPU", "f32"), (device, "CPU", "f32")
    assert found == {
        "ONNX": (None, None, None),
        "IR FP32": on_cpu,
        f"IR FP32 on {device}": on_device,
        "IR FP16": on_cpu,
        f"IR FP16 on {device}": on_device,
    }


def test_it_runs_again_on_another_device_only(cli: Cli, small: ModelCard, workspace: Path) -> None:
    plain, auto = ("verify", small.folder, "-o", workspace), ("--device", "AUTO:CPU")
    assert "verify: unchanged" in cli(*plain).stderr
    shown = cli(*plain, *auto)
    assert "verify: done" in shown.stderr
    assert "AUTO:CPU" in shown.stdout and "CPU, f32" in shown.stdout
    page = (workspace / "public" / "small-standin" / "report.html").read_text(encoding="utf-8")
    assert "IR FP32 on AUTO:CPU <small>CPU, f32</small>" in page
    assert "verify: unchanged" in cli(*plain, *auto).stderr
    again = cli(*plain)
    assert "verify: done" in again.stderr
    assert "ran on" not in again.stdout


def test_a_manifest_from_before_devices_still_holds(cli: Cli, small: ModelCard, workspace: Path) -> None:
    with manifests.changed(workspace / "public" / "small-standin") as manifest:
        verified = manifest["stages"]["verify"]
        del verified["inputs"]["device"]
        for row in verified["result"]["comparisons"]:
            del row["device"], row["ran_on"], row["computed_in"]
    assert "verify: unchanged" in cli("verify", small.folder, "-o", workspace).stderr


@pytest.mark.skipif("avx512-bf16" not in this_processor().instructions, reason="this processor computes in f32")
def test_what_it_really_computes_in_decides_the_tolerance(
    cli: Cli, small: ModelCard, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that cannot compute in f32: here one that is not asked to. It hides fine faults, which the CPU shows."""

    def not_asked(*arguments: Any, **keywords: Any) -> list[Candidate]:
        found = candidates(*arguments, **keywords)
        return [replace(one, model=replace(one.model, at_default_precision=one.model.device != "CPU")) for one in found]

    def name(self: Candidate, _: str) -> str:
        return f"{self.name} on AUTO:CPU" if self.model.at_default_precision else self.name

    monkeypatch.setattr(verify_stage, "candidates", not_asked)
    monkeypatch.setattr(Candidate, "name_at", name)
    result = cli("verify", small.folder, "-o", workspace, "--device", "AUTO:CPU", "--json")
    assert result.exit_code == 0, result.stderr
    told = result.json()["stages"][0]["result"]
    rows = {row["backend"]: row for row in told["comparisons"]}
    blue = told["sensitivity"]["blue off by 1 of 255"]
    for precision in ("FP32", "FP16"):
        row, on_cpu = rows[f"IR {precision} on AUTO:CPU"], rows[f"IR {precision}"]
        assert (row["precision"], row["computed_in"], on_cpu["computed_in"]) == ("bf16", "bf16", "f32")
        assert row["passed"] and not row["informative"]
        assert on_cpu["allowed"]["rms"] < row["relative_error"]["rms"] < row["allowed"]["rms"]
        assert on_cpu["allowed"]["rms"] < blue["rms"] < row["allowed"]["rms"]


def spoilt(small_run: Path, path: Path) -> Path:
    """The small model's IR with the weights of its last convolution negated."""
    model = read_ir(openvino.Core(), small_run / "public" / "small-standin" / "FP32" / "small-standin.xml")
    last = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"][-1]
    last.input(1).replace_source_output(operations().constant(-last.input_value(1).get_node().data).output(0))
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def test_an_ir_that_is_wrong_everywhere_has_its_cause_named(
    cli: Cli, small: ModelCard, small_run: Path, tmp_path: Path
) -> None:
    wrong = ("--ir", spoilt(small_run, tmp_path / "wrong.xml"), "--device", "AUTO:CPU")
    result = cli("verify", small.folder, "-o", small_run, *wrong, "--json")
    assert result.exit_code == 9
    assert "IR wrong.xml differs from the reference" in result.error and "driver" not in result.error
    on_cpu, on_device = result.json()["stages"][0]["result"]["comparisons"]
    assert (on_cpu["passed"], on_device["passed"]) == (False, False)
    assert on_cpu["explanation"] and not on_device["explanation"]


def test_a_fault_of_the_device_alone(
    cli: Cli, small: ModelCard, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that computes otherwise: here it runs another IR."""
    right = small_run / "public" / "small-standin" / "FP32" / "small-standin.xml"
    other = spoilt(small_run, tmp_path / "other.xml")

    def otherwise(*arguments: Any, **keywords: Any) -> list[Candidate]:
        found = candidates(*arguments, **keywords)
        return [
            replace(one, model=replace(one.model, path=other)) if one.device == "AUTO:CPU" else one for one in found
        ]

    monkeypatch.setattr(verify_stage, "candidates", otherwise)
    result = cli("verify", small.folder, "-o", small_run, "--ir", right, "--device", "AUTO:CPU")
    assert result.exit_code == 9
    assert "IR small-standin.xml on AUTO:CPU differs from the reference" in result.error
    assert result.error.endswith("Do not ship it to AUTO:CPU. On the CPU the IR is right: look for a newer driver.")


def test_evaluate_on_it(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    dataset = voc.write(tmp_path / "data", small, [(72, 64)] * 3)
    evaluate = (
        "evaluate",
        small.folder,
        "-o",
        workspace,
        "--dataset",
        dataset,
        "--backend",
        "ONNX",
        "--backend",
        "FP32",
    )
    on_cpu = cli(*evaluate, "--json").json()
    result = cli(*evaluate, "--device", "HETERO:CPU", "--at-default-precision", "--json")
    assert result.exit_code == 0, result.stderr
    told = result.json()
    assert told["inputs"]["device"] == device_record("HETERO:CPU") and on_cpu["inputs"]["device"] is None
    scores = {score["backend"]: score for score in told["result"]["scores"]}
    expected = {score["backend"]: score for score in on_cpu["result"]["scores"]}
    assert [scores[name]["device"] for name in ("ONNX", "IR FP32")] == [None, "HETERO:CPU"]
    assert (scores["IR FP32"]["ran_on"], scores["IR FP32"]["computed_in"]) == ("CPU", "f32")
    default = str(openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name())
    assert scores["IR FP32 at default precision"]["computed_in"] == default
    assert scores["IR FP32"]["pixels"] == expected["IR FP32"]["pixels"]
    assert expected["IR FP32"]["device"] == "CPU"
    shown = cli(*evaluate, "--device", "HETERO:CPU").stdout
    assert "ran on" in shown and "CPU, f32" in shown


def test_quantizes_check_on_it(cli: Cli, small: ModelCard, quantized: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(quantized, tmp_path / "out")
    result = cli("quantize", small.folder, "-o", folder, *LENIENT, "--device", "AUTO:CPU", "--json")
    assert result.exit_code == 0, result.stderr
    made, checked = result.json()["stages"]
    assert (made["skipped"], checked["skipped"]) == (True, False)
    assert checked["inputs"]["device"] == device_record("AUTO:CPU")
    found = checked["result"]
    assert (found["device"], found["ran_on"], found["computed_in"]) == ("AUTO:CPU", "CPU", "f32")
    before = manifests.read(quantized / "public" / "small-standin")["stages"]["verify-int8"]["result"]
    assert found["differing"] == before["differing"]
    assert "AUTO:CPU" in cli("quantize", small.folder, "-o", folder, *LENIENT, "--device", "AUTO:CPU").stdout


def test_segment_on_it(cli: Cli, small: ModelCard, workspace: Path) -> None:
    maps = []
    for device in ("CPU", "AUTO:CPU"):
        command = ("segment", SAMPLES / "coffee.jpg", "--model", small.folder, "-o", workspace)
        result = cli(*command, "--device", device, "--json")
        assert result.exit_code == 0, result.stderr
        maps.append(np.asarray(Picture.open(result.json()[0]["labels"])))
    assert np.array_equal(*maps)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["AUTO:CPU", "HETERO:CPU"])
def test_benchmark_times_irs_on_it(cli: Cli, small: ModelCard, workspace: Path, device: str) -> None:
    checkpoint = ("--checkpoint", small.folder / small.checkpoint.name, "-o", workspace)
    asked = ("--rounds", "1", "--graph", "folded", "--layers", "--throughput", "--startup", "--device", device)
    result = cli("benchmark", small.folder, *asked, *checkpoint, "--json")
    assert result.exit_code == 0, result.stderr
    told = result.json()
    for row in told["timings"]:
        is_ir = row["runtime"] == "IR"
        assert row["device"] == (device if is_ir else None)
        assert (row["share"] is None) == is_ir
    assert {row["precision"] for row in told["timings"] if row["at"] == "f32"} == {"f32"}
    assert told["throughput"][0]["streams"] >= 1
    folder = workspace / "public" / "small-standin"
    assert manifests.read(folder)["stages"]["benchmark"]["inputs"]["device"] == device_record(device)
    assert f", IRs on {device}." in (folder / "report.html").read_text(encoding="utf-8")
    assert told["layers"][0]["layers"] and told["startup"]
