"""From converted files (a workspace's, or others) to candidates: how each is run, and at which precision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.compare import Candidate
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend, read_ir
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.logit_error import Precision
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.runtimes.openvino_install import require_openvino


def candidates(
    files: Sequence[ModelFile],
    card: ModelCard,
    shape: ImageShape,
    form: InputForm = PLAIN,
    *,
    at_default_precision: bool,
) -> list[Candidate]:
    """A candidate for each file, for images of `shape`, which an IR takes in `form`.

    With `at_default_precision`, each IR is also run at this processor's default precision.
    """
    if any(file.path.suffix == ".xml" for file in files):
        require_openvino()
    found = []
    for file in files:
        if file.path.suffix != ".xml":
            found.append(Candidate(file.name, "f32", partial(OnnxBackend, file.path, card, shape)))
            continue
        precision = file.claims or _weights_precision(file.path)
        open_it = partial(OpenVinoBackend, file.path, card, shape, form)
        found.append(Candidate(file.name, precision, open_it, is_ir=True))
        if at_default_precision:
            runtime = _runtime_precision()
            open_it = partial(OpenVinoBackend, file.path, card, shape, form, at_default_precision=True)
            found.append(Candidate(f"{file.name} at {runtime}", runtime, open_it, is_ir=True, report_only=True))
    return found


def _weights_precision(path: Path) -> Precision:
    """FP16 if any weight in the IR is stored in FP16."""
    import openvino

    constants = [op for op in read_ir(openvino.Core(), path).get_ops() if op.get_type_name() == "Constant"]
    stored = {op.get_element_type().get_type_name() for op in constants if len(op.get_output_shape(0))}
    return "FP16" if "f16" in stored else "f32"


def _runtime_precision() -> Precision:
    """The precision that OpenVINO computes in on this processor by default."""
    import openvino

    hint = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return {"bf16": "bf16", "f16": "f16"}.get(hint, "f32")  # type: ignore[return-value]
