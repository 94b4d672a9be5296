"""From converted files (a workspace's, or others) to candidates: how each is run, and what is known of it before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pspnet_convert.commands.quantize.options import MIN_AGREEMENT
from pspnet_convert.device import CPU
from pspnet_convert.runtimes.child_model import OpenModel
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.logit_error import Precision
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.runtimes.openvino_install import require_openvino
from pspnet_convert.runtimes.output_form import OutputForm

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard


@dataclass(frozen=True)
class Candidate:
    """A converted model, and how it is run.

    `claims`: the precision that its weights should have; None: it is read from the file. `processor`: the instruction
    set to which the processor is capped; None: all that it has. `report_only`: the result does not affect the verdict.
    `min_agreement`: the share of pixels at which an INT8 model must give the reference's label.
    """

    name: str
    model: OpenModel
    claims: Precision | None = None
    processor: str | None = None
    report_only: bool = False
    min_agreement: float = MIN_AGREEMENT

    def name_at(self, precision: str) -> str:
        """Its name in the result: with processor or device, and with the `precision` where that is the device's own."""
        if self.processor is not None:
            return f"{self.name} on {self.processor}"
        name = self.name if self.model.device == CPU else f"{self.name} on {self.model.device}"
        return f"{name} at {precision}" if self.model.at_default_precision else name

    @property
    def device(self) -> str | None:
        """The device that it was asked for; None for an ONNX, which ONNX Runtime runs."""
        return self.model.device if self.is_ir else None

    @property
    def is_ir(self) -> bool:
        """Whether the preprocessing is in the model."""
        return self.model.path.suffix == ".xml"


@dataclass(frozen=True)
class Runs:
    """How IRs are run too: as on each of `processors`, on `device`, and there `at_default_precision`."""

    device: str = CPU
    processors: Sequence[str] = ()
    at_default_precision: bool = False


ON_THE_CPU = Runs()


def precisions_of(compared: Sequence[Candidate]) -> frozenset[Precision]:
    """The precisions that the candidates may turn out to have."""
    found: frozenset[Precision] = frozenset(one.claims or "FP16" for one in compared)
    is_open = any(one.model.at_default_precision or one.model.device != CPU for one in compared)
    return found | {"bf16", "f16"} if is_open else found


def candidates(
    files: Sequence[ModelFile],
    card: ModelCard,
    shape: ImageShape,
    form: InputForm = PLAIN,
    runs: Runs = ON_THE_CPU,
    *,
    min_agreement: float = MIN_AGREEMENT,
    gives: OutputForm | None = None,
) -> list[Candidate]:
    """A candidate for each file, for images of `shape`, which an IR takes in `form`. For `gives` see check_signature.

    Each IR is run on the CPU, where it can compute in f32, which shows finer faults; and as `runs` says.
    """
    if any(file.path.suffix == ".xml" for file in files):
        require_openvino()
    found = []
    for file in files:
        model = OpenModel(file.path, card, shape, form, gives=gives)
        found.append(Candidate(file.name, model, file.claims))
        if not found[-1].is_ir:
            continue
        found += [Candidate(file.name, model, file.claims, name) for name in runs.processors]
        on_device = replace(model, device=runs.device)
        if runs.device != CPU:
            found.append(Candidate(file.name, on_device, file.claims))
        if runs.at_default_precision:
            default = replace(on_device, at_default_precision=True)
            found.append(Candidate(file.name, default, report_only=True))
    return [replace(one, min_agreement=min_agreement) for one in found]
