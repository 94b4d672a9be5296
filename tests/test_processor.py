"""Models run as on processors with fewer instructions, what really ran is read back, and INT8's overflow is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import openvino
import pytest
import voc
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import DependencyError, OptionError
from pspnet_convert.processor import (
    INSTRUCTION_SETS,
    Processor,
    capped,
    chosen_processors,
    executed_instructions,
    this_processor,
)

HERE = this_processor()
NAMES = list(INSTRUCTION_SETS)
# oneDNN's words (cpu_isa_traits in its sources), from the fewest instructions to the most.
WORDS = {
    "avx2": "Intel AVX2",
    "avx2-vnni": "Intel AVX2 with Intel DL Boost",
    "avx512": "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    "avx512-vnni": "Intel AVX-512 with Intel DL Boost",
    "avx512-bf16": "Intel AVX-512 with Intel DL Boost and bfloat16 support",
    "amx": "Intel AVX-512 with float16, Intel DL Boost and bfloat16 support and "
    "Intel AMX with bfloat16 and 8-bit integer support",
}
needs_vnni = pytest.mark.skipif(
    not {"avx512-vnni", "avx2-vnni"} & set(HERE.instructions), reason="this processor has no VNNI to compare with"
)


def log_of(words: str, *instructions: str) -> str:
    """oneDNN's log, of a processor with these `words`, and convolutions with these instructions."""
    lines = [f"onednn_verbose,v1,info,cpu,isa:{words}"]
    shape = "forward_inference,src:f32::blocked:acdb::f0"
    lines += [
        f"onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,jit:{one},{shape}" for one in instructions
    ]
    return "\n".join(["something else", *lines, ""])


@given(asked=st.sampled_from(NAMES), real=st.sampled_from(NAMES))
def test_a_cap_counts_only_where_onednn_reports_it(asked: str, real: str) -> None:
    printed = log_of(WORDS[real], INSTRUCTION_SETS[real].cap.lower())
    if asked == real:
        assert executed_instructions(asked, printed) == INSTRUCTION_SETS[real].cap.lower()
        return
    with pytest.raises(DependencyError, match=f"--processor {asked}: OpenVINO did not keep to it: oneDNN reports"):
        executed_instructions(asked, printed)


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ("", "did not keep to it: oneDNN reports no instruction set"),
        (log_of(WORDS["avx2"]), "ran convolutions with nothing known"),
        (log_of(WORDS["avx2"], "avx2", "avx512_core"), "ran convolutions with avx2, avx512_core"),
        (log_of(WORDS["avx2"], "avx2", "avx10"), "ran convolutions with avx2, avx10"),
    ],
)
def test_convolutions_beyond_the_cap_are_an_error(printed: str, says: str) -> None:
    with pytest.raises(DependencyError, match=says):
        executed_instructions("avx2", printed)


def test_a_processor_runs_what_it_has() -> None:
    processor = Processor("a client", ("avx2", "avx2-vnni"))
    assert chosen_processors("all", processor) == ("avx2", "avx2-vnni")
    assert chosen_processors("avx2", processor) == ("avx2",)
    assert chosen_processors(None, processor) == ()
    with pytest.raises(
        OptionError, match=r"--processor amx: this processor \(a client\) does not have it; it has avx2"
    ):
        chosen_processors("amx", processor)
    with pytest.raises(OptionError, match="does not say which instruction sets it has"):
        chosen_processors("all", Processor("unknown", ()))


def test_verify_runs_each_ir_as_on_another_processor(cli: Cli, small: ModelCard, workspace: Path) -> None:
    result = cli("verify", small.folder, "-o", workspace, "--processor", "avx2", "--json")
    assert result.exit_code == 0, result.stderr
    (stage,) = result.json()["stages"]
    assert stage["inputs"]["processor"] == HERE.as_dict()
    rows = {row["backend"]: row for row in stage["result"]["comparisons"]}
    assert list(rows) == ["ONNX", "IR FP32", "IR FP32 on avx2", "IR FP16", "IR FP16 on avx2"]
    for name, row in rows.items():
        assert row["passed"]
        assert (row["processor"], row["executed"]) == (("avx2", "avx2") if "avx2" in name else (None, None))
    shown = cli("verify", small.folder, "-o", workspace, "--processor", "avx2").stdout
    assert "As on other processors" in shown


def test_another_processor_is_a_reason_to_verify_again(
    cli: Cli, small: ModelCard, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "verify: unchanged" in cli("verify", small.folder, "-o", workspace).stderr
    other = Processor("another one", HERE.instructions)
    monkeypatch.setattr("pspnet_convert.commands.verify.stage.this_processor", lambda: other)
    result = cli("verify", small.folder, "-o", workspace, "--json")
    (stage,) = result.json()["stages"]
    assert not stage["skipped"]
    assert stage["inputs"]["processor"]["name"] == "another one"


def test_an_instruction_set_that_is_not_here_is_refused(cli: Cli, small: ModelCard, workspace: Path) -> None:
    missing = [name for name in NAMES if name not in HERE.instructions]
    result = cli("verify", small.folder, "-o", workspace, "--processor", missing[-1])
    assert result.exit_code == 2
    assert "does not have it; it has avx2" in result.error


def test_a_cap_that_does_not_work_is_an_error(
    cli: Cli, small: ModelCard, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {**capped("avx2"), "ONEDNN_MAX_CPU_ISA": "DEFAULT", "OV_CPU_MAX_ISA": "DEFAULT"}
    monkeypatch.setattr("pspnet_convert.commands.verify.answers.capped", lambda name: without)
    result = cli("verify", small.folder, "-o", workspace, "--processor", "avx2")
    assert result.exit_code == 14
    assert "--processor avx2: OpenVINO did not keep to it: oneDNN reports Intel AVX-512" in result.error


@needs_vnni
def test_int8_that_overflows_without_vnni_is_found_and_this_tools_own_does_not(
    cli: Cli, demo_run: Path, tmp_path: Path
) -> None:
    """The figures of NNCF's three fixes, on the demo: see docs/performance.md."""
    folder = shutil.copytree(demo_run, tmp_path / "out")
    wrong = cli("quantize", "demo", "-o", folder, "--overflow-fix", "disable", "--processor", "avx2", "--json")
    assert wrong.exit_code == 9
    assert "the FP32 IR: on avx2: " in wrong.error
    assert "its 8-bit sums overflow without VNNI. Quantize it with NNCF's overflow fix in all layers" in wrong.error
    (row,) = wrong.json()["stages"][1]["result"]["processors"]
    assert (row["processor"], row["executed"]) == ("avx2", "avx2")
    assert row["agreement"] < wrong.json()["stages"][1]["result"]["agreement"] - 0.001

    verified = cli("verify", "demo", "-o", folder, "--processor", "avx2", "--json")
    assert verified.exit_code == 9
    assert "Do not ship it to such processors. Quantize it with NNCF's overflow fix" in verified.error
    rows = {one["backend"]: one["passed"] for one in verified.json()["stages"][0]["result"]["comparisons"]}
    assert [name for name, passed in rows.items() if not passed] == ["IR INT8 on avx2"]

    right = cli("quantize", "demo", "-o", folder, "--processor", "avx2")
    assert right.exit_code == 0, right.stderr
    assert "INT8 as on other processors" in right.stdout
    result = cli("verify", "demo", "-o", folder, "--processor", "avx2", "--json")
    assert result.exit_code == 0, result.stderr
    int8, on_avx2 = result.json()["stages"][0]["result"]["comparisons"][-2:]
    assert (on_avx2["backend"], on_avx2["differing"]) == ("IR INT8 on avx2", int8["differing"])

    weights = folder / "public" / "demo" / "INT8" / "demo.bin"
    numbers = bytearray(weights.read_bytes())
    nodes = openvino.Core().read_model(weights.with_suffix(".xml")).get_ordered_ops()
    mean = next(node for node in nodes if node.get_type_name() in ("Add", "Subtract")).input_value(1).get_node().data
    place = numbers.index(mean.tobytes())
    numbers[place : place + mean.nbytes] = (-2 * mean).tobytes()
    weights.write_bytes(numbers)
    wrong = cli("verify", "demo", "-o", folder, "--processor", "avx2")
    assert wrong.exit_code == 9
    assert "IR INT8 differs from the reference: pixels: the same label at " in wrong.error


def test_evaluate_counts_on_other_processors_and_at_the_default_precision(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    dataset = voc.write(tmp_path / "data", small, [(72, 64)] * 3)
    arguments = ("--dataset", dataset, "--processor", "avx2", "--at-default-precision", "--backend", "FP32", "--json")
    result = cli("evaluate", small.folder, "-o", workspace, *arguments)
    assert result.exit_code == 0, result.stderr
    told = result.json()
    assert told["inputs"]["processor"] == HERE.as_dict()
    scores = {score["backend"]: score["pixels"] for score in told["result"]["scores"]}
    assert list(scores) == ["IR FP32", "IR FP32 at default precision", "IR FP32 on avx2"]
    assert scores["IR FP32"] == scores["IR FP32 on avx2"]


@pytest.mark.slow
def test_benchmark_times_models_as_on_another_processor(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    checkpoint = ("--checkpoint", small.folder / small.checkpoint.name, "-o", tmp_path)
    result = cli("benchmark", small.folder, "--rounds", "1", "--processor", "avx2", "--json", *checkpoint)
    assert result.exit_code == 0, result.stderr
    rows = result.json()["timings"]
    found = {(row["runtime"], row["graph"], row["at"], row["processor"]) for row in rows}
    assert ("IR", "folded", "f32", "avx2") in found and ("IR", "folded", "f32", None) in found
    for row in rows:
        if (row["runtime"], row["graph"], row["weights"]) == ("IR", "plain", "FP32"):
            assert row["ratio"]["median"] == 1
    limits = {(limit["precision"], limit["processor"]): limit["kernel"] for limit in result.json()["limits"]}
    assert "avx2" in limits["f32", "avx2"] and ("f32", None) in limits
