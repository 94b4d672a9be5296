"""Find the cause of a mismatch, in words: the first hypothesis that explains the whole difference."""

from __future__ import annotations

import time

from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence, Tests
from pspnet_convert.commands.verify.causes.first_layer import FirstLayer
from pspnet_convert.commands.verify.causes.input_causes import input_causes
from pspnet_convert.commands.verify.causes.label_causes import follows, label_cause
from pspnet_convert.commands.verify.causes.logit_causes import logit_causes, not_finite
from pspnet_convert.commands.verify.causes.number_causes import number_causes
from pspnet_convert.commands.verify.causes.resize_causes import argmax_before_resize, resize_causes

_SECONDS = 40.0


def find_cause(evidence: Evidence, seconds: float = _SECONDS) -> Cause | None:
    """The cause in the input, the output or the numbers; None if none of the hypotheses explains the whole difference.

    Those that need no run of the reference come first. After `seconds` no further one is tested.
    """
    ends = time.monotonic() + seconds
    for cause in _tests(evidence):
        if cause is not None or time.monotonic() > ends:
            return cause
    return None


def _tests(evidence: Evidence) -> Tests:
    found, expected = evidence.found, evidence.expected
    if found.logits.shape != expected.logits.shape:
        yield argmax_before_resize(evidence)
        return
    yield not_finite(evidence)
    has_right_logits = evidence.difference.within(evidence.allowed)
    if follows(evidence) == has_right_logits:
        return  # nothing is wrong, or two things are
    if has_right_logits:
        yield label_cause(evidence)
        return
    yield from logit_causes(evidence)
    yield from resize_causes(evidence)
    layer = FirstLayer.of(evidence)
    yield from input_causes(evidence, layer)
    yield from number_causes(evidence, layer)
