"""Verification catches every fault of the catalogue, in ONNX and IR, and refuses no right conversion."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_catalogue import Caught, catalogue, right_conversions
from fault_causes import EXPECTED

from pspnet_convert.cards.card import ModelCard

pytestmark = [pytest.mark.slow, pytest.mark.openvino]


@pytest.fixture(scope="module")
def caught(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> list[Caught]:
    return list(catalogue(small, tmp_path_factory.mktemp("faults")))


def test_every_fault_is_caught(caught: list[Caught]) -> None:
    assert len({one.fault.name for one in caught}) >= 60
    assert {one.fault.file for one in caught} == {"ONNX", "IR FP32", "IR FP16"}
    assert [f"{one.fault.file}: {one.fault.name}" for one in caught if not one.by] == []


def test_each_check_finds_some_faults(caught: list[Caught]) -> None:
    """The last two find wrong labels in two ways: with the model's own logits, and with the reference's."""
    seen = [list(one.by) for one in caught]
    assert {checks[0] for checks in seen} == {"contract", "argmax", "logits"}
    assert any("labels" in checks and "pixels" in checks for checks in seen)


def test_causes_and_layers_are_named_and_none_wrongly(caught: list[Caught]) -> None:
    wrong = {f"{one.fault.file}: {one.fault.name}": one.explanation for one in caught if one.naming == "WRONG"}
    assert wrong == {}
    assert sum(one.naming == "right" for one in caught) >= 0.95 * len(caught)


def test_what_must_be_named_is_known_of_each_fault_and_of_no_other(caught: list[Caught]) -> None:
    judged = {one.fault.name for one in caught if "contract" not in one.by}
    assert judged - set(EXPECTED) == set()
    assert set(EXPECTED) - {one.fault.name for one in caught} == set()


def test_right_conversions_pass(tmp_path: Path) -> None:
    results = list(right_conversions(4, 1, tmp_path))
    assert len(results) == 4
    assert [f"{name}: {said}" for name, said in results if said] == []
