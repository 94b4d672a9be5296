"""The reference's answers from a process of its own are those of this process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify import reference_ahead, stage
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.commands.verify.reference import expect
from pspnet_convert.commands.verify.reference_ahead import ReferenceAhead, ReferenceRequest
from pspnet_convert.files import Digests
from pspnet_convert.pytorch.source_checkpoint import SourceCheckpoint
from pspnet_convert.runtimes.input_form import PLAIN


@pytest.fixture(scope="module")
def checkpoint(small: ModelCard) -> Path:
    return small.folder / small.checkpoint.name


def requested(small: ModelCard, **changes: Any) -> ReferenceRequest:
    conversion = Conversion(fold_pyramid=True, front_end="ovc", openvino="2026.4.0")
    given = {"precisions": frozenset({"f32", "FP16"}), "conversion": conversion, "images": (), **changes}
    return ReferenceRequest(small, small.input.shape, form=PLAIN, **given)


def test_the_answers_are_the_same_as_in_this_process(small: ModelCard, checkpoint: Path, tmp_path: Path) -> None:
    request, noted = requested(small), []
    (tmp_path / "ahead").mkdir()
    with ReferenceAhead() as ahead:
        ahead.begin(checkpoint, request, tmp_path / "ahead")
        found = ahead.answers(requested(small), lambda: noted.append(1))
        network = SourceCheckpoint(small, checkpoint, Digests(), allow_unknown=True).take_network()
        known = expect(network, small, request.inputs(), tmp_path, lambda: None, request.precisions, request.conversion)
        assert found is not None and len(found) == len(known) == len(noted)
        for ours, theirs in zip(found, known):
            assert np.array_equal(ours.prediction.labels, theirs.prediction.labels)
            assert np.array_equal(ours.prediction.logits, theirs.prediction.logits)
            assert ours.in_fp16 is not None and theirs.in_fp16 is not None
            assert np.array_equal(ours.in_fp16.logits, theirs.in_fp16.logits)
            assert (ours.sensitivity, ours.rounding) == (theirs.sensitivity, theirs.rounding)


@pytest.mark.parametrize(
    "changes",
    [{"conversion": None}, {"precisions": frozenset({"f32"})}, {"images": (Path("photo.jpg"),)}],
    ids=["another conversion", "another precision", "more images"],
)
def test_answers_to_another_request_do_not_count(
    small: ModelCard, checkpoint: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with ReferenceAhead() as ahead:
        assert ahead.answers(requested(small), lambda: None) is None
        ahead.begin(checkpoint, requested(small), tmp_path)
        assert ahead.answers(requested(small, **changes), lambda: None) is None


def test_a_process_that_was_killed_has_no_answers(small: ModelCard, checkpoint: Path, tmp_path: Path) -> None:
    with ReferenceAhead() as ahead:
        ahead.begin(checkpoint, requested(small), tmp_path)
        assert ahead._worker is not None
        os.kill(ahead._worker._process.pid, signal.SIGKILL)
        assert ahead.answers(requested(small), lambda: None) is None


def test_run_takes_the_answers_of_the_other_process(
    cli: Cli, small: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_ahead, "_SMALL", 0)
    monkeypatch.setattr(stage, "expect", None)  # called, it would raise
    whole = cli("run", small.folder, "-o", tmp_path)
    assert whole.exit_code == 0, whole.stderr
    assert "verdict: pass" in whole.stdout
    assert not list(tmp_path.rglob("*.logits"))
