"""Faults in the numbers: weights or logits rounded to fewer bits, a run in fewer bits, another eps.

A rounding may be done in another order than here, on weights that were folded in another way. So rounded weights are
accepted by the clear ratio that `Evidence.explained_by` asks for, and not by what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence, Logits, Tests
from pspnet_convert.commands.verify.causes.first_layer import FirstLayer
from pspnet_convert.commands.verify.causes.reference_runs import run
from pspnet_convert.pytorch.batchnorm import sharing_copy
from pspnet_convert.pytorch.folded import folded_copy
from pspnet_convert.pytorch.rewritten import rewritten_copy
from pspnet_convert.runtimes.logit_error import error_of

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet

# Numbers of bf16 in the range of FP16 are numbers of FP16 too.
_KINDS = {"bf16": torch.bfloat16, "FP16": torch.float16}
_SAME_SIZE = 3  # an error of the same cause is at most so many times larger or smaller
Rounding = Callable[[Tensor], Tensor]
_EPS = (1e-3, 1e-5, 1e-6, 1e-12)  # of BatchNorm in TensorFlow, PyTorch, and others


def number_causes(evidence: Evidence, layer: FirstLayer | None) -> Tests:
    """Hypotheses on the numbers. With the first layer's output, only those that it allows are run."""
    yield _logits_rounded(evidence)
    if layer is not None and layer.is_right(evidence.tensor):
        return
    for what, network in chain(_with_rounded_weights(evidence), _with_other_eps(evidence)):
        if layer is None or layer.allows_network(network, evidence.tensor):
            yield _explained(evidence, what, run(network, evidence.tensor))
    yield _run_in_fewer_bits(evidence)


def _explained(evidence: Evidence, what: str, logits: Logits) -> Cause | None:
    return evidence.explained_by("numbers", what, logits, by_ratio=True)


def _with_rounded_weights(evidence: Evidence) -> Iterator[tuple[str, PSPNet]]:
    for network in _as_in_files(evidence):
        for what, change in _ROUNDED_WEIGHTS.items():
            for with_rest in (False, True):
                yield what, _rounded(network, change, with_rest)


def _as_in_files(evidence: Evidence) -> Iterator[PSPNet]:
    """The network with the weights that a file has: folded, with and without its pyramid, or as they are.

    An FP16 model is compared with a folded network already.
    """
    if evidence.precision == "f32":
        for fold_pyramid in (True, False):
            yield rewritten_copy(evidence.network, evidence.tensor.shape[1:], fold_pyramid=fold_pyramid)
    yield evidence.network


@torch.no_grad()
def _rounded(network: PSPNet, change: Rounding, with_rest: bool) -> PSPNet:
    """A copy with rounded weights, and with `with_rest` also biases and other constants."""
    copy = sharing_copy(network)
    for module in copy.modules():
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is None or not tensor.is_floating_point():
                    continue
                if with_rest or (name == "weight" and tensor.dim() > 1):
                    kept[name] = nn.Parameter(change(tensor), requires_grad=False)
    return copy


def _by_channel(tensor: Tensor) -> Tensor:
    """Symmetric, to -127..127, a scale for each output channel. Vectors stay."""
    return (
        _to_bytes(tensor, tensor.abs().amax(tuple(range(1, tensor.dim())), keepdim=True))
        if tensor.dim() > 1
        else tensor
    )


def _by_tensor(tensor: Tensor) -> Tensor:
    return _to_bytes(tensor, tensor.abs().max()) if tensor.dim() > 1 else tensor


def _to_bytes(tensor: Tensor, largest: Tensor) -> Tensor:
    scale = (largest / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.round(tensor / scale) * scale


_ROUNDED_WEIGHTS: dict[str, Rounding] = {
    "weights are rounded to FP16": lambda tensor: tensor.half().float(),
    "weights are rounded to bf16": lambda tensor: tensor.bfloat16().float(),
    "weights are rounded to 8 bits": _by_channel,
    "weights are rounded to 8 bits, with one scale for a whole layer": _by_tensor,
}


def _with_other_eps(evidence: Evidence) -> Iterator[tuple[str, PSPNet]]:
    norms = [module for module in evidence.network.modules() if isinstance(module, _BatchNorm)]
    used = sorted({norm.eps for norm in norms})
    for eps in _EPS if norms else ():
        if used == [eps]:
            continue
        copy = sharing_copy(evidence.network)
        for module in copy.modules():
            if isinstance(module, _BatchNorm):
                module.eps = eps
        what = f"BatchNorm's eps is {eps:g}, the network's is {', '.join(f'{one:g}' for one in used)}"
        yield what, folded_copy(copy, (1, *evidence.tensor.shape[1:]))


def _run_in_fewer_bits(evidence: Evidence) -> Cause | None:
    """Whether the first layer's output has numbers of few bits, and rounding all of them moves the reference as far.

    Which number is rounded to which is not reproduced: two right runs in bf16 are as far from each other as from f32.
    """
    found = evidence.first_layer
    if found is None or not found.any() or evidence.precision in ("bf16", "f16"):
        return None
    for name, kind in _KINDS.items():
        if not np.array_equal(_cast(found, kind), found):
            continue
        moved = error_of(_rounding_run(evidence, _to(kind)), evidence.expected.logits)
        if moved.rms / _SAME_SIZE <= evidence.difference.rms <= moved.rms * _SAME_SIZE:
            words = (
                f"its first layer gives numbers of {name}; such a run moves the reference by {moved.rms:.1e}, "
                f"this model is {evidence.difference.rms:.1e} from it"
            )
            return Cause("numbers", f"the model is run in {name}", words)
    return None


def _rounding_run(evidence: Evidence, change: Rounding) -> Logits:
    """The reference's logits with all weights and the output of each convolution rounded."""
    network = _rounded(folded_copy(evidence.network, (1, *evidence.tensor.shape[1:])), change, with_rest=True)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, given, result: change(result))
    return run(network, evidence.tensor)


def _to(kind: torch.dtype) -> Rounding:
    return lambda tensor: tensor.to(kind).float()


def _logits_rounded(evidence: Evidence) -> Cause | None:
    """Whether all logits are numbers that FP16 or bf16 holds, next to the reference's."""
    found, expected = evidence.found.logits, evidence.expected.logits
    for name, kind in _KINDS.items():
        if not np.array_equal(_cast(found, kind), found):
            continue
        # A logit near the middle of two numbers may be rounded to either.
        error = error_of(found, _cast(expected, kind))
        if 2 * error.rms <= evidence.difference.rms:
            words = (
                f"each of them is a number of {name}; with the reference's rounded, the difference is {error.rms:.1e}"
            )
            return Cause("numbers", f"logits are rounded to {name}", words)
    return None


def _cast(logits: Logits, kind: torch.dtype) -> Logits:
    return torch.from_numpy(logits).to(kind).float().numpy()  # type: ignore[no-any-return]
