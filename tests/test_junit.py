"""JUnit XML of a verification: what CI shows is what the verdict says."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import onnx
import onnx.numpy_helper
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.junit import junit_xml
from pspnet_convert.commands.verify.result import CHECKS, Comparison, Verification
from pspnet_convert.manifest_fields import VerifyResult


def cases(path: Path) -> dict[str, dict[str, str]]:
    """By suite and case, the element in the case: failure, skipped or nothing."""
    return {
        suite.attrib["name"]: {
            case.attrib["name"]: "".join(child.tag for child in case) for case in suite.iter("testcase")
        }
        for suite in ElementTree.parse(path).iter("testsuite")
    }


def test_a_pass_has_a_case_for_each_check_of_each_model(cli: Cli, small: ModelCard, workspace: Path) -> None:
    path = workspace / "reports" / "junit.xml"
    assert cli("run", small.folder, "-o", workspace, "--junit", path).exit_code == 0
    models = [f"small-standin.{name}" for name in ("ONNX", "IR FP32", "IR FP16")]
    assert cases(path) == {
        "small-standin.inputs": {"sensitivity": "", "preprocessing": ""},
        **{name: dict.fromkeys(CHECKS, "") for name in models},
    }


def test_what_is_wrong_fails_and_what_is_only_reported_does_not(cli: Cli, small: ModelCard, workspace: Path) -> None:
    path = workspace / "public" / "small-standin" / "small-standin.onnx"
    model = onnx.load(str(path))
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "decode_head.conv_seg.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, str(path))
    report = workspace / "junit.xml"
    result = cli("verify", small.folder, "-o", workspace, "--junit", report, "--at-default-precision")
    assert result.exit_code == 9
    suites = cases(report)
    assert suites["small-standin.ONNX"]["logits"] == "failure"
    assert suites["small-standin.IR FP32"] == dict.fromkeys(CHECKS, "")
    (suite,) = [s for s in ElementTree.parse(report).iter("testsuite") if s.attrib["name"] == "small-standin.ONNX"]
    assert int(suite.attrib["failures"]) == len(list(suite.iter("failure"))) >= 1
    assert "logit error" in next(suite.iter("failure")).attrib["message"]


@pytest.mark.parametrize("command", ["verify", "run"])
def test_a_verification_that_ends_early_leaves_no_earlier_verdict(
    cli: Cli, small: ModelCard, workspace: Path, command: str
) -> None:
    report = workspace / "junit.xml"
    arguments = (command, small.folder, "-o", workspace, "--junit", report)
    assert cli(*arguments).exit_code == 0
    assert report.is_file()
    text = workspace / "text.jpg"
    text.write_text("no image")
    assert cli(*arguments, "--images", text).exit_code == 13
    assert not report.exists()


def test_a_doubt_fails_the_inputs_and_a_fault_that_is_only_reported_is_skipped() -> None:
    reported = Comparison("IR at bf16", "bf16", report_only=True, pixels=1)
    reported.add_fault("logits", "far off")
    result = Verification([Comparison("ONNX", "f32", pixels=1), reported], [], [0], {}, {})
    root = ElementTree.fromstring(junit_xml("m", VerifyResult.model_validate(result.as_dict())).encode())
    inputs, _, at_bf16 = root.iter("testsuite")
    assert [inputs.attrib["failures"], at_bf16.attrib["failures"]] == ["1", "0"]
    assert [inputs.attrib["skipped"], at_bf16.attrib["skipped"]] == ["0", "1"]
    assert "one class everywhere" in next(inputs.iter("failure")).attrib["message"]
    assert next(at_bf16.iter("skipped")).attrib["message"] == "report only: far off"


@given(st.text(), st.text())
def test_any_text_makes_valid_xml(backend: str, words: str) -> None:
    comparison = Comparison(backend, "f32")
    comparison.add_fault("contract", words)
    verification = Verification([comparison], [], [0, 1], {}, {})
    text = junit_xml("m", VerifyResult.model_validate(verification.as_dict()))
    ElementTree.fromstring(text.encode())
