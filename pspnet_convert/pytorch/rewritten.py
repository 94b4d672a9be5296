"""The network as it is exported: rewritten into cheaper, equal operations, its constant steps folded."""

from __future__ import annotations

from collections.abc import Sequence

from pspnet_convert.pytorch.batchnorm import fold_batchnorms, sharing_copy
from pspnet_convert.pytorch.network import PSPNet
from pspnet_convert.pytorch.rewrites.pyramid import with_folded_pyramid, with_matrix_pools


def is_rewritten(network: PSPNet) -> bool:
    """Whether the rewrites apply: False for a network with code that this tool does not know."""
    return network.runs_on_meta and not network.is_as_written


def rewritten_copy(network: PSPNet, image: Sequence[int], *, fold_pyramid: bool) -> PSPNet:
    """An equal network for images [channels, height, width] of this shape. Unchanged tensors are shared.

    Its modules have the names that the ONNX file's nodes begin with. Without `fold_pyramid`, the pyramid's pools alone
    are rewritten. Where the rewrites do not apply, only BatchNorms are folded, if their shapes can be found.
    """
    if is_rewritten(network):
        changed = (with_folded_pyramid if fold_pyramid else with_matrix_pools)(network, *image[1:])
    else:
        changed = sharing_copy(network)
    if network.runs_on_meta:
        fold_batchnorms(changed, (1, *image))
    return changed
