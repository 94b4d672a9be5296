"""Export the network to one ONNX file, with argmax inside and the card's names, and check the file in full.

torch's exporter makes the graph; what would tie the file to a machine (source paths) is removed.
"""

from __future__ import annotations

import gc
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.export_onnx.options import OPSETS, ExportOptions
from pspnet_convert.errors import ExportError, first_line
from pspnet_convert.forms import LABEL_TYPES
from pspnet_convert.pytorch.network import PSPNet
from pspnet_convert.pytorch.rewritten import is_rewritten, rewritten_copy
from pspnet_convert.runtimes.input_form import DYNAMIC
from pspnet_convert.runtimes.output_form import OutputForm

LABELS_ALONE = OutputForm()
LARGEST_ONNX = 2**31 - 1  # bytes: protobuf's limit
_SIZE_OF_GRAPH = 2**22  # bytes of nodes, names and the pyramid's constants, at most
_SCOPES = "pkg.torch.onnx.name_scopes"
_NETWORK = "network."  # the attribute of Segmenter that holds the network
log = logging.getLogger(__name__)


class Segmenter(nn.Module):
    """Images [N, C, H, W] in; out what `form` says, in its order.

    Label maps are [N, 1, H, W]; the first of equal logits wins, as in argmax. Logits and probabilities are
    [N, classes, H, W]: softmax, and for a binary head 1 - sigmoid and sigmoid of its score.
    """

    def __init__(self, network: PSPNet, form: OutputForm = LABELS_ALONE) -> None:
        super().__init__()
        self.network = network
        self.outputs = tuple(form.outputs)
        self.dtype: torch.dtype = getattr(torch, LABEL_TYPES[form.label_type])
        self.is_binary = network.decision_score is not None

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        logits = self.network(image)
        made = {"logits": logits}
        if "labels" in self.outputs:
            made["labels"] = logits.argmax(dim=1, keepdim=True).to(self.dtype)
        if "probabilities" in self.outputs:
            made["probabilities"] = self._probabilities(logits)
        wanted = tuple(made[name] for name in self.outputs)
        return wanted if len(wanted) > 1 else wanted[0]

    def _probabilities(self, logits: Tensor) -> Tensor:
        if not self.is_binary:
            return logits.softmax(dim=1)
        score = logits[:, 1:]
        return torch.cat([torch.sigmoid(-score), torch.sigmoid(score)], dim=1)


def write_onnx(
    network: PSPNet, card: ModelCard, target: Path, options: ExportOptions, provenance: Mapping[str, str]
) -> None:
    """Write `network` to `target` as ONNX; `provenance` goes into metadata_props.

    Raises ExportError for an opset outside OPSETS, for outputs that do not go with the network, for a network that is
    too large for an ONNX file, or if the exporter or onnx.checker refuses the network.
    """
    if options.opset not in OPSETS:
        raise ExportError(
            f"opset {options.opset} is not supported", f"Choose {OPSETS[0]} to {OPSETS[-1]} with --opset."
        )
    _check_size(network)
    _check_outputs(network, card, options.form)
    try:
        # The wrapper itself must be in eval mode: the exporter restores *its* mode, on every module below it as well.
        model = _trace(Segmenter(_rewritten(network, options), options.form).eval(), card, options)
    # UNet asserts that it can halve the image's sides.
    except (RuntimeError, ValueError, AssertionError, torch.onnx.errors.OnnxExporterError) as error:
        raise ExportError(
            f"the network does not export at {list(options.shape)}: {first_line(error.__cause__ or error)}",
            "Try another --input-shape or --opset; --debug shows the exporter's messages.",
        ) from error
    _clean(model, provenance)
    _save(model, target)


def _check_outputs(network: PSPNet, card: ModelCard, form: OutputForm) -> None:
    if form.label_type == "u8" and len(card.classes) > 256:
        raise ExportError(f"{len(card.classes)} classes do not fit into u8", "Use --label-type int32.")
    if network.decision_score is not None and set(form.outputs) == {"probabilities"}:
        raise ExportError(
            "a binary head's labels depend on its threshold, which is not in the probabilities",
            "Say --output labels too.",
        )


def _check_size(network: PSPNet) -> None:
    """ExportError if the weights are more than an ONNX file can have. All else in the file is small."""
    size = sum(weight.numel() * weight.element_size() for weight in network.parameters()) + _SIZE_OF_GRAPH
    if size > LARGEST_ONNX:
        raise ExportError(
            f"the ONNX would have {size / 1e9:.2f} GB, and an ONNX file can have {LARGEST_ONNX / 1e9:.2f} GB",
            "Take a smaller backbone, or fewer `channels` in the decode head. The image's size makes no difference.",
        )


def _rewritten(network: PSPNet, options: ExportOptions) -> PSPNet:
    if not is_rewritten(network):
        log.warning("the network is exported as written: it has code that this tool does not know")
    return rewritten_copy(network, options.shape[1:], fold_pyramid=options.fold_pyramid)


def write_plain_onnx(network: PSPNet, card: ModelCard, target: Path, options: ExportOptions | None = None) -> None:
    """What torch's exporter makes of `network` as it is: what others get, for benchmarks. Of `options` (default: the
    card's shape) only shape and opset count."""
    options = options or ExportOptions(card.input.shape)
    _save(_trace(Segmenter(network).eval(), card, replace(options, output=("labels",))), target)


def _trace(module: nn.Module, card: ModelCard, options: ExportOptions) -> Any:
    batch, *of_image = options.shape
    is_dynamic = batch == DYNAMIC
    # The exporter takes a dimension that is 1 in the example as always 1.
    example = (torch.zeros(2 if is_dynamic else batch, *of_image),)
    dynamic_shapes = ({0: torch.export.Dim("batch")},) if is_dynamic else None
    with _quiet_exporter(), _TypedArange(), torch.no_grad():
        if is_dynamic:
            _check_any_batch(module, example, dynamic_shapes)
        program = torch.onnx.export(
            module,
            example,
            dynamic_shapes=dynamic_shapes,
            dynamo=True,
            input_names=[card.input.name],
            output_names=options.form.names(card.output.name),
            opset_version=options.opset,
            verbose=False,
        )
    assert program is not None  # dynamo=True always gives one
    opset = program.model.opset_imports.get("")
    if opset != options.opset:
        raise ExportError(f"the exporter wrote opset {opset} where {options.opset} was asked for")
    return program.model


def _check_any_batch(module: nn.Module, example: tuple[Tensor], dynamic_shapes: Any) -> None:
    """ExportError if the network's code makes the batch size a constant, as Swin's does.

    torch.onnx.export would then try other ways, and write a graph that is right for the example's batch size alone.
    """
    try:
        torch.export.export(module, example, dynamic_shapes=dynamic_shapes, strict=False)
    except torch._dynamo.exc.UserError as error:
        raise ExportError(
            "the network's code makes the batch size a constant: it does not export with --batch dynamic",
            "Say --batch and a number.",
        ) from error


def _clean(model: Any, provenance: Mapping[str, str]) -> None:
    """Give nodes readable names and remove source paths, so that every machine writes the same file."""
    # Remove torch's build as well (CPU or GPU, as in 2.13.0+cpu).
    model.producer_version = (model.producer_version or "").partition("+")[0]
    graph = model.graph
    kept = [*graph.inputs, *graph.outputs]
    paths: dict[str, str] = {}  # the path of the module that made each value
    counts: dict[str, int] = {}
    for value in graph.initializers.values():
        value.metadata_props.clear()
    for node in graph:
        path = _module_of(node) or next(
            (paths[v.name] for v in node.inputs if v is not None and v.name in paths), "logits"
        )
        base = f"{path}.{node.op_type}"
        counts[base] = counts.get(base, 0) + 1
        node.name = base if counts[base] == 1 else f"{base}.{counts[base]}"
        node.metadata_props.clear()
        for index, value in enumerate(node.outputs):
            value.metadata_props.clear()
            if value not in kept:
                value.name = node.name if index == 0 else f"{node.name}:{index}"
            paths[value.name] = path
    for value in kept:
        value.metadata_props.clear()
    for name in [name for name in graph.initializers if name.startswith(_NETWORK)]:
        graph.initializers[name].name = name[len(_NETWORK) :]
    graph.metadata_props.clear()
    graph.name = provenance["name"]
    model.metadata_props.clear()
    model.metadata_props.update(provenance)


def _module_of(node: Any) -> str:
    """The path of the module that the node belongs to, such as `backbone.layer1.0.conv1`; empty if none is known."""
    weights = [value.name for value in node.inputs if value is not None and value.is_initializer()]
    if node.op_type == "Conv" and weights:  # its scope may be that of the BatchNorm folded into it
        path = weights[0].rpartition(".")[0]
    else:
        scopes = [part.strip(" '\"") for part in node.metadata_props.get(_SCOPES, "").strip("[]").split(",")]
        if len(scopes) < 2:
            return ""
        path = scopes[-2]
    return f"{path}.".removeprefix(_NETWORK).rstrip(".") or "logits"


def _save(model: Any, target: Path) -> None:
    """Write `model` and check the file. Frees the model's weights: writing takes memory for two more copies of them."""
    import onnx
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    # onnxscript's rewrite rules keep the last graph that they saw in memory.
    for weight in model.graph.initializers.values():
        weight.const_value = None
    onnx.save(proto, target)
    del proto  # before the checker reads the file
    try:
        onnx.checker.check_model(str(target), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx.checker refuses the exported graph: {first_line(error)}") from error


class _TypedArange(TorchFunctionMode):
    """torch.arange(0, 8.0) has floats; torch's exporter (2.13) writes integers unless it is told."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if function is torch.arange and any(isinstance(bound, float) for bound in args):
            given.setdefault("dtype", torch.get_default_dtype())
        return function(*args, **given)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Send the exporter's notices to the debug log, silence one about torchvision, pause garbage collection."""
    printed = io.StringIO()
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    # The exporter makes many objects that all stay alive: garbage collection would take a sixth of its time.
    collecting = gc.isenabled()
    gc.disable()
    with warnings.catch_warnings(record=True) as caught, redirect_stdout(printed):
        warnings.simplefilter("always")
        try:
            yield
        finally:
            registry.setLevel(level)
            if collecting:
                gc.enable()
    for line in [*printed.getvalue().splitlines(), *(str(warning.message) for warning in caught)]:
        log.debug("exporter: %s", line)
