"""The cause of a mismatch is named where one fault explains all of it, and none is named otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from faults import Edit, Fault, make
from make_standin_checkpoint import blobs, calibrate
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.answers import answers_of
from pspnet_convert.commands.verify.candidates import Candidate
from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence
from pspnet_convert.commands.verify.causes.find import find_cause
from pspnet_convert.commands.verify.causes.reference_runs import first_convolution, run, run_before_resize
from pspnet_convert.commands.verify.causes.resize_causes import rules
from pspnet_convert.commands.verify.explain import Reference, evidence_of
from pspnet_convert.commands.verify.inputs import drawn_logits, own_sheet, verification_inputs
from pspnet_convert.commands.verify.reference import Expected
from pspnet_convert.commands.verify.result import Comparison
from pspnet_convert.commands.verify.tolerances import Rounding
from pspnet_convert.pytorch.batchnorm import sharing_copy
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.folded import folded_copy
from pspnet_convert.pytorch.network import PSPNet, build_network, build_segmentor
from pspnet_convert.runtimes.backends import Prediction
from pspnet_convert.runtimes.child_model import OpenModel
from pspnet_convert.runtimes.logit_error import Error, Precision

Array = NDArray[Any]
F32 = Error(1e-5, 3e-5)
MEAN, SCALE = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


@pytest.fixture(scope="module")
def network(small: ModelCard) -> PSPNet:
    return build_network(small, load_checkpoint(small.folder / small.checkpoint.name, small))


@pytest.fixture(scope="module")
def right(small: ModelCard, network: PSPNet) -> Evidence:
    """Of a model that is right."""
    image = verification_inputs(small, small.input.shape)[0].image
    return evidence_on(network, small, image)


def evidence_on(network: PSPNet, card: ModelCard, image: Array) -> Evidence:
    nothing = Prediction(np.zeros((1, 1), np.int64), np.zeros((1, 1, 1), np.float32))
    evidence = Evidence(network, card, image, nothing, nothing, None, None, True, "f32", F32)
    logits = run(network, evidence.tensor)
    expected = Prediction(logits.argmax(axis=0), logits)
    drawn = drawn_logits(len(logits), *image.shape[:2])
    evidence = replace(evidence, expected=expected, found=expected, drawn=(drawn, drawn.argmax(axis=0)))
    return replace(evidence, first_layer=first_layer(network, evidence.tensor))


def first_layer(network: PSPNet, tensor: Array) -> Array:
    folded = folded_copy(network, (1, *tensor.shape[1:]))
    convolution = first_convolution(folded, tensor)
    assert convolution is not None
    with torch.inference_mode():
        return convolution(torch.from_numpy(tensor))[0].float().numpy()  # type: ignore[no-any-return]


def given(right: Evidence, tensor: Array, network: PSPNet | None = None) -> Evidence:
    """Of a model whose network gets `tensor` [1, C, H, W]."""
    tensor = np.ascontiguousarray(tensor, np.float32)
    used = network or right.network
    return replace(with_logits(right, run(used, tensor)), first_layer=first_layer(used, tensor))


def with_logits(right: Evidence, logits: Array) -> Evidence:
    logits = np.ascontiguousarray(logits, np.float32)
    return replace(right, found=Prediction(logits.argmax(axis=0), logits))


def with_labels(right: Evidence, change: Callable[[Array, Array], Array]) -> Evidence:
    """`change` makes labels of logits and their argmax."""
    logits, (drawn, _) = right.found.logits, right.drawn or (None, None)
    assert drawn is not None
    found = Prediction(change(logits, logits.argmax(axis=0)), logits)
    return replace(right, found=found, drawn=(drawn, change(drawn, drawn.argmax(axis=0))))


def named(cause: Cause | None, place: str) -> str:
    assert cause is not None
    assert cause.place == place
    return cause.what


# The input. `rgb` is [H, W, 3]


def normal(rgb: Array, mean: Array = MEAN, scale: Array = SCALE) -> Array:
    return ((rgb - mean) / scale).transpose(2, 0, 1)[None]


def padded(rgb: Array, **how: Any) -> Array:
    """One pixel up and two to the right; `how`: np.pad's mode."""
    return np.pad(normal(rgb)[0], ((0, 0), (0, 1), (2, 0)), **how)[None, :, 1:, :-2]


MISTAKES: dict[str, Callable[[Array], Array]] = {
    "red and blue are swapped": lambda rgb: normal(rgb[..., ::-1]),
    "red and blue are swapped, and their means and scales with them": lambda rgb: normal(rgb)[:, ::-1],
    "red and green are swapped": lambda rgb: normal(rgb[..., [1, 0, 2]]),
    "the channels are in the order green, blue, red; it should be red, green, blue": lambda rgb: normal(
        rgb[..., [1, 2, 0]]
    ),
    "the mean is missing": lambda rgb: rgb.transpose(2, 0, 1)[None] / SCALE.reshape(1, 3, 1, 1),
    "the mean is subtracted twice": lambda rgb: normal(rgb - MEAN),
    "the mean is added": lambda rgb: normal(rgb + 2 * MEAN),
    "the scale is missing": lambda rgb: normal(rgb) * SCALE.reshape(1, 3, 1, 1),
    "the scale is applied twice": lambda rgb: normal(rgb) / SCALE.reshape(1, 3, 1, 1),
    "the scale is inverted": lambda rgb: normal(rgb) * SCALE.reshape(1, 3, 1, 1) ** 2,
    "mean and scale are missing": lambda rgb: rgb.transpose(2, 0, 1)[None],
    "mean and scale are applied twice": lambda rgb: normal(normal(rgb)[0].transpose(1, 2, 0)),
    "mean and scale are exchanged": lambda rgb: normal(rgb, SCALE, MEAN),
    "the scale is applied before the mean": lambda rgb: (rgb / SCALE - MEAN).transpose(2, 0, 1)[None],
    "mean and scale are those of values of 0..1": lambda rgb: normal(rgb, MEAN / 255, SCALE / 255),
    "the image is divided by 255 first": lambda rgb: normal(rgb / 255),
    "the image is scaled to -1..1, without mean and scale": lambda rgb: (rgb / 127.5 - 1).transpose(2, 0, 1)[None],
    "the means of red and blue are swapped": lambda rgb: normal(rgb, MEAN[::-1]),
    "the means are in another order": lambda rgb: normal(rgb, MEAN[[0, 2, 1]]),
    "the scales of red and blue are swapped": lambda rgb: normal(rgb, MEAN, SCALE[::-1]),
    "the input is mirrored left to right": lambda rgb: normal(rgb[:, ::-1]),
    "the input is upside down": lambda rgb: normal(rgb[::-1]),
    "the input is rotated by 180 degrees": lambda rgb: normal(rgb[::-1, ::-1]),
    "the input is shifted by 1 pixel down": lambda rgb: np.roll(normal(rgb), 1, axis=2),
    "values above 127 are cut off": lambda rgb: normal(np.minimum(rgb, 127)),
    "values above 127 are taken as negative (signed bytes)": lambda rgb: normal((rgb + 128) % 256 - 128),
    "values above 1 are cut off": lambda rgb: normal(np.minimum(rgb, 1)),
    "normalised values below 0 are cut off": lambda rgb: np.maximum(normal(rgb), 0),
    "normalised values are cut to whole numbers": lambda rgb: np.floor(normal(rgb)),
    "channels are last in the input, and are read as if they were first": lambda rgb: normal(
        rgb[..., ::-1].reshape(3, 72, 64).transpose(1, 2, 0)[..., ::-1]
    ),
    "height and width of the input are exchanged": lambda rgb: normal(rgb.transpose(1, 0, 2).reshape(rgb.shape)),
}
FITTED: dict[str, Callable[[Array], Array]] = {
    "the mean is [124.046, 116.629, 103.841], the card says [123.675, 116.28, 103.53]": lambda rgb: normal(
        rgb, 1.003 * MEAN
    ),
    "blue's scale is 56.2275, the card says 57.375": lambda rgb: normal(rgb, MEAN, SCALE * [1, 1, 0.98]),
    "green's mean is 117.28, the card says 116.28; red's scale is 59, the card says 58.395": lambda rgb: normal(
        rgb, MEAN + np.array([0, 1, 0]), np.array([59, 57.12, 57.375])
    ),
    "red and blue are swapped, and the mean is missing": lambda rgb: normal(rgb[..., ::-1] + MEAN),
    "green is read instead of red": lambda rgb: normal(rgb[..., [1, 1, 2]]),
    "blue of the input is constant": lambda rgb: normal(rgb * [1, 1, 0]),
    "each channel of the input is a mix of several": lambda rgb: normal(
        rgb.mean(axis=2, keepdims=True).repeat(3, axis=2)
    ),
    "the input is shifted by 2 pixels up and by 3 pixels to the left": lambda rgb: np.roll(
        normal(rgb), (-2, -3), axis=(2, 3)
    ),
}


@pytest.mark.parametrize("what", MISTAKES | FITTED)
def test_a_fault_in_the_input_is_named(right: Evidence, what: str) -> None:
    tensor = (MISTAKES | FITTED)[what](right.image[..., ::-1].astype(np.float64))
    assert named(find_cause(given(right, tensor)), "input") == what


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_named_without_the_first_layer_too(right: Evidence, what: str) -> None:
    tensor = MISTAKES[what](right.image[..., ::-1].astype(np.float64))
    assert named(find_cause(replace(given(right, tensor), first_layer=None)), "input") == what


@pytest.mark.parametrize("how", [{"mode": "wrap"}, {"mode": "edge"}, {"mode": "constant"}])
def test_a_shifted_input_is_named_whatever_comes_in_at_its_border(right: Evidence, how: dict[str, str]) -> None:
    evidence = given(right, padded(right.image[..., ::-1].astype(np.float64), **how))
    what = "the input is shifted by 1 pixel up and by 2 pixels to the right"
    assert named(find_cause(evidence), "input") == what


def test_a_mean_in_the_first_layers_bias_is_named(right: Evidence) -> None:
    """A convolution that pads the image before the mean is subtracted: black, not the mean."""
    black = (-MEAN / SCALE).tolist()

    def with_black_borders(network: PSPNet) -> PSPNet:
        changed = sharing_copy(network)
        convolution = first_convolution(changed, right.tensor)
        assert convolution is not None
        convolution.padding = (0, 0)
        convolution.register_forward_pre_hook(
            lambda _, images: torch.stack(
                [nn.functional.pad(images[0][:, c], (1, 1, 1, 1), value=black[c]) for c in range(3)], dim=1
            )
        )
        return changed

    folded = with_black_borders(folded_copy(right.network, (1, *right.tensor.shape[1:])))
    convolution = next(module for module in folded.modules() if isinstance(module, nn.Conv2d))
    with torch.inference_mode():
        output = convolution(torch.from_numpy(right.tensor))[0].numpy()
    logits = run(with_black_borders(right.network), right.tensor)
    evidence = replace(with_logits(right, logits), first_layer=output)
    what = "the first layer's bias subtracts the mean, which is wrong at the image's borders"
    assert named(find_cause(evidence), "input") == what


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_faults_in_other_channels_are_named(small: ModelCard, channels: int) -> None:
    card = card_of_channels(small, channels)
    mean, scale = np.array(card.input.mean), np.array(card.input.scale)
    network = network_of_channels(small, channels)
    right = evidence_on(network, card, own_sheet(*card.input.shape[2:], card.input))
    assert find_cause(right) is None
    values_of = (right.image - mean) / scale
    wrong = mean.copy()
    wrong[-1] *= 1.02
    of_wrong_mean = given(right, ((right.image - wrong) / scale).transpose(2, 0, 1)[None])
    words = f"channel {channels - 1}'s mean is" if channels > 1 else "the mean is ["
    assert named(find_cause(of_wrong_mean), "input").startswith(words)
    if channels > 1:
        order = [1, 0, *range(2, channels)]
        swapped = given(right, values_of[..., order].transpose(2, 0, 1)[None])
        assert named(find_cause(swapped), "input").startswith("channel 0 and channel 1 are swapped")


def test_swapped_channels_are_named_where_the_first_layer_has_fewer(small: ModelCard) -> None:
    card = card_of_channels(small, 13)
    right = evidence_on(network_of_channels(small, 13, stem=8), card, own_sheet(*card.input.shape[2:], card.input))
    order = [0, 1, 2, 3, 4, 5, 12, 7, 8, 9, 10, 11, 6]
    mean, scale = np.array(card.input.mean), np.array(card.input.scale)
    swapped = given(right, ((right.image[..., order] - mean) / scale).transpose(2, 0, 1)[None])
    assert named(find_cause(swapped), "input") == "channel 6 and channel 12 are swapped"


def card_of_channels(small: ModelCard, channels: int) -> ModelCard:
    mean, scale = 10.0 + 3 * np.arange(channels), 5.0 + np.arange(channels)
    values = {"color_order": "as stored", "converted_color_order": "as stored", "mean": mean, "scale": scale}
    shape = (1, channels, *small.input.shape[2:])
    return small.model_copy(update={"input": small.input.model_copy(update={**values, "shape": shape})})


def network_of_channels(card: ModelCard, channels: int, stem: int = 32) -> PSPNet:
    """Its first layer gives half as many channels as `stem`."""
    torch.manual_seed(0)
    assert card.config is not None
    backbone = {"model.backbone.in_channels": channels, "model.backbone.stem_channels": stem}
    overrides = {**card.config_overrides, **backbone}
    network = PSPNet(build_segmentor(card.config, overrides), channels).eval()
    calibrate(network, torch.cat([blobs(4, 64) for _ in range(-(-channels // 3))], dim=1)[:, :channels])
    return network.requires_grad_(False)


def test_an_answer_to_another_image_of_the_batch_is_named(right: Evidence) -> None:
    other = run(right.network, np.roll(right.tensor, 20, axis=3))
    evidence = replace(with_logits(right, other), others={"sheet-2": other})
    assert named(find_cause(evidence), "input").endswith("this one's answer is that of sheet-2")


# The output

LABELS: dict[str, Callable[[Array, Array], Array]] = {
    "labels are too high by 3": lambda _, largest: largest + 3,
    "labels are too low by 1": lambda _, largest: largest - 1,
    "the labels are counted from the end": lambda _, largest: 4 - largest,
    "the labels are of the smallest logit (argmin)": lambda logits, _: logits.argmin(axis=0),
    "of equal logits, the label is the last one": lambda logits, _: 4 - logits[::-1].argmax(axis=0),
    "classes 1 and 3 are swapped": lambda _, largest: np.array([0, 3, 2, 1, 4])[largest],
    "classes have other numbers: 0 as 2, 2 as 4, 4 as 0": lambda _, largest: np.array([2, 1, 4, 3, 0])[largest],
    "labels above 2 are cut off": lambda _, largest: np.minimum(largest, 2),
    "the label map is mirrored left to right": lambda _, largest: largest[:, ::-1],
    "the label map is upside down": lambda _, largest: largest[::-1],
    "rows and columns of the label map are exchanged": lambda _, largest: largest.T,
    "the label map is shifted by 1 rows and -2 columns": lambda _, largest: np.roll(largest, (1, -2), axis=(0, 1)),
}


@pytest.mark.parametrize("what", LABELS)
def test_a_fault_in_the_labels_is_named(right: Evidence, what: str) -> None:
    assert named(find_cause(with_labels(right, LABELS[what])), "output") == what


def softmax(logits: Array) -> Array:
    return torch.from_numpy(logits).softmax(dim=0).numpy()  # type: ignore[no-any-return]


LOGITS: dict[str, Callable[[Array], Array]] = {
    "the logits are probabilities (softmax)": softmax,
    "the logits are logarithms of probabilities (log-softmax)": lambda logits: np.log(softmax(logits)),
    "the logits are probabilities of each class (sigmoid)": lambda logits: 1 / (1 + np.exp(-logits)),
    "the logits have the opposite sign (argmin)": lambda logits: -logits,
    "the logits are 0.5 times the reference's": lambda logits: logits / 2,
    "classes 2 and 4 are swapped": lambda logits: logits[[0, 1, 4, 3, 2]],
    "classes have other numbers: 0 as 1, 1 as 2, 2 as 0": lambda logits: logits[[1, 2, 0, 3, 4]],
    "the last layer's bias is off: +0.5 for class 1, -0.25 for class 3": lambda logits: (
        logits + np.array([0, 0.5, 0, -0.25, 0])[:, None, None]
    ),
    "the logits are mirrored left to right": lambda logits: logits[:, :, ::-1],
    "the logits are upside down": lambda logits: logits[:, ::-1],
    "the logits are shifted by 0 rows and 1 columns": lambda logits: np.roll(logits, 1, axis=2),
}


@pytest.mark.parametrize("what", LOGITS)
def test_a_fault_in_the_logits_is_named(right: Evidence, what: str) -> None:
    assert named(find_cause(with_logits(right, LOGITS[what](right.expected.logits))), "output") == what


def test_a_wrong_bias_of_the_last_layer_is_named(right: Evidence) -> None:
    bias = right.network.decode_head.conv_seg.bias.numpy()[:, None, None]
    logits = right.expected.logits
    assert named(find_cause(with_logits(right, logits - bias)), "output") == "the last layer's bias is missing"
    what = "the last layer's bias is 0.93 times the reference's"
    assert named(find_cause(with_logits(right, logits - 0.07 * bias)), "output") == what
    reordered = (logits - bias)[[0, 3, 2, 1, 4]] + bias
    what = "classes 1 and 3 are swapped in the last layer's weights, and not in its bias"
    assert named(find_cause(with_logits(right, reordered)), "output") == what


RESIZES: dict[str, dict[str, Any]] = {
    "the logits are resized with align_corners": {"mode": "bilinear", "align_corners": True},
    "the logits are resized by cubic interpolation with half-pixel centres": {"mode": "bicubic"},
    "the logits are resized by cubic interpolation with align_corners": {"mode": "bicubic", "align_corners": True},
    "the logits are resized to the nearest with half-pixel centres": {"mode": "nearest-exact"},
}


@pytest.mark.parametrize("what", RESIZES)
def test_another_rule_of_the_resize_is_named(right: Evidence, what: str) -> None:
    logits = resized(before_resize(right), right.expected.logits.shape[1:], **RESIZES[what])
    assert same_for_whole_factors(named(find_cause(with_logits(right, logits)), "output")) == what


def same_for_whole_factors(what: str) -> str:
    """At a factor of 8, the nearest cell is the same one by both rules."""
    return what.replace(" (rounded down) without the half-pixel offset (asymmetric)", " with half-pixel centres")


def before_resize(evidence: Evidence) -> Array:
    logits = run_before_resize(evidence.network, evidence.tensor)
    assert logits is not None
    return logits


def resized(logits: Array, size: tuple[int, ...], **how: Any) -> Array:
    return interpolate(torch.from_numpy(logits)[None], size=size, **how)[0].numpy()  # type: ignore[no-any-return]


TORCHS = {
    **RESIZES,
    "the logits are resized to the nearest (the next at ties) with half-pixel centres": {"mode": "nearest-exact"},
    "the logits are resized to the nearest (rounded down) without the half-pixel offset (asymmetric)": {
        "mode": "nearest"
    },
}
del TORCHS["the logits are resized to the nearest with half-pixel centres"]  # ONNX's default, at ties


@pytest.mark.parametrize("size", [(72, 64), (70, 59)])
@pytest.mark.parametrize("what", TORCHS)
def test_the_rules_of_the_resize_are_torchs(what: str, size: tuple[int, int]) -> None:
    logits = np.random.default_rng(0).standard_normal((2, 9, 8)).astype(np.float32)
    ((rows, columns),) = [matrices for name, *matrices in rules((9, 8), size) if name == what]
    assert np.allclose(rows @ logits @ columns.T, resized(logits, size, **TORCHS[what]), atol=1e-5)


def test_an_argmax_before_the_resize_is_named(right: Evidence) -> None:
    what = "the argmax comes before the resize to the image's size"
    assert named(find_cause(with_logits(right, before_resize(right))), "output") == what
    assert find_cause(with_logits(right, before_resize(right) + 0.01)) is None


def test_another_threshold_of_a_binary_head_is_named(right: Evidence) -> None:
    network = sharing_copy(right.network)
    network.decision_score = 0.25
    evidence = evidence_on(network, right.card, right.image)
    logits = evidence.expected.logits.copy()
    logits[0] = 0.5
    what = "scores are compared with 0.5, the threshold is 0.25"
    assert named(find_cause(with_logits(evidence, logits)), "output") == what


# The numbers


def rounded(change: Callable[[torch.Tensor], torch.Tensor], *, weights_alone: bool) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and (not weights_alone or tensor.name.endswith(".weight")):
                changed = change(torch.from_numpy(values.copy())).float().numpy()
                tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))

    return edit


def to_bytes(tensor: torch.Tensor) -> torch.Tensor:
    scale = tensor.abs().max() / 127
    return torch.round(tensor / scale) * scale


NUMBERS: dict[str, Edit] = {
    "weights are rounded to FP16": rounded(torch.Tensor.half, weights_alone=False),
    "weights are rounded to bf16": rounded(torch.Tensor.bfloat16, weights_alone=False),
    "weights are rounded to 8 bits, with one scale for a whole layer": rounded(to_bytes, weights_alone=True),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_rounded_weights_are_named(right: Evidence, small_run: Path, tmp_path: Path, what: str) -> None:
    assert named(find_cause(evidence_of_onnx(right, small_run, tmp_path, NUMBERS[what])), "numbers") == what


def evidence_of_onnx(right: Evidence, small_run: Path, folder: Path, edit: Edit) -> Evidence:
    """Of the small model's ONNX file with a fault."""
    path = make(Fault("", "ONNX", graph=edit), right.card, onnx_of(small_run), folder)
    return evidence_of_file(right, path, "f32", F32, folder)


def evidence_of_file(right: Evidence, path: Path, precision: Precision, allowed: Error, folder: Path) -> Evidence:
    """As `verify` collects it."""
    card = right.card
    inputs = verification_inputs(card, card.input.shape)[:1]
    drawn = drawn_logits(len(card.classes), *card.input.shape[2:])
    candidate = Candidate(path.name, OpenModel(path, card, card.input.shape), precision)
    answers = answers_of(candidate.model.open(), [inputs[0].image], lambda: drawn, folder / "kept")
    comparison = Comparison(path.name, precision, candidate.is_ir, allowed=allowed)
    expected = [Expected(right.expected, {}, Rounding(F32))]
    return evidence_of(Reference(right.network, card, inputs, expected, drawn), candidate, answers, comparison)


def onnx_of(small_run: Path) -> Path:
    return small_run / "public" / "small-standin" / "small-standin.onnx"


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_rounded_logits_are_named(right: Evidence, kind: str) -> None:
    logits = torch.from_numpy(right.expected.logits).to(getattr(torch, kind)).float().numpy()
    name = {"float16": "FP16", "bfloat16": "bf16"}[kind]
    assert named(find_cause(with_logits(right, logits)), "numbers") == f"logits are rounded to {name}"


def test_a_run_in_bf16_is_named(right: Evidence) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        evidence = given(right, right.tensor)
    assert evidence.first_layer is not None
    assert named(find_cause(evidence), "numbers") == "the model is run in bf16"
    # What moves the logits much farther is not that.
    assert find_cause(with_logits(evidence, evidence.found.logits + blurred(evidence, 1.0))) is None


def blurred(evidence: Evidence, size: float) -> Array:
    noise = np.random.default_rng(0).standard_normal(evidence.expected.logits.shape)
    return size * np.abs(evidence.expected.logits).max() * noise


def in_fp16(model: onnx.ModelProto) -> None:
    """All of it, from the input to the logits, which are turned into float32 again."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    nodes = model.graph.node
    place = next(number for number, node in enumerate(nodes) if node.op_type == "ArgMax")
    logits = nodes[place].input[0]
    nodes[place].input[0] = "in f32"
    nodes.insert(place, helper.make_node("Cast", [logits], ["in f32"], to=onnx.TensorProto.FLOAT))
    name = model.graph.input[0].name
    for node in nodes:
        node.input[:] = ["in FP16" if one == name else one for one in node.input]
    nodes.insert(0, helper.make_node("Cast", [name], ["in FP16"], to=onnx.TensorProto.FLOAT16))
    del model.graph.value_info[:]


def test_an_onnx_in_fp16_is_named(right: Evidence, small_run: Path, tmp_path: Path) -> None:
    evidence = evidence_of_onnx(right, small_run, tmp_path, in_fp16)
    assert named(find_cause(evidence), "numbers") == "the model is run in FP16"


def test_another_eps_is_named(right: Evidence) -> None:
    network = sharing_copy(right.network)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eps = 1e-3
    what = "BatchNorm's eps is 0.001, the network's is 1e-05"
    assert named(find_cause(given(right, right.tensor, network)), "numbers") == what


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_named(right: Evidence, value: float) -> None:
    logits = right.expected.logits.copy()
    logits[2, 5, 7] = value
    cause = find_cause(with_logits(right, logits))
    assert named(cause, "numbers") == "some logits are not finite (NaN or infinite)"
    assert cause is not None
    assert "in 1 of 5 classes" in cause.evidence


# Whole files


@pytest.mark.parametrize("file", ["ONNX", "FP32", "FP16"])
def test_the_first_layer_of_a_file_is_the_references(
    right: Evidence, small_run: Path, tmp_path: Path, file: str
) -> None:
    folder = onnx_of(small_run).parent
    path = onnx_of(small_run) if file == "ONNX" else folder / file / "small-standin.xml"
    found = evidence_of_file(right, path, "f32", F32, tmp_path).first_layer
    assert found is not None
    assert right.first_layer is not None
    tolerance = 2e-3 if file == "FP16" else 2e-6
    assert np.abs(found - right.first_layer).max() <= tolerance * np.abs(right.first_layer).max()


def test_the_first_layers_bias_may_be_an_addition(right: Evidence, small_run: Path, tmp_path: Path) -> None:
    def split(model: onnx.ModelProto) -> None:
        place, convolution = next((n, node) for n, node in enumerate(model.graph.node) if node.op_type == "Conv")
        bias, result = convolution.input.pop(), convolution.output[0]
        convolution.output[0] = "without bias"
        (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == bias]
        shaped = numpy_helper.to_array(tensor).reshape(1, -1, 1, 1)
        model.graph.initializer.append(numpy_helper.from_array(shaped, "shaped"))
        model.graph.node.insert(place + 1, helper.make_node("Add", ["without bias", "shaped"], [result]))

    found = evidence_of_onnx(right, small_run, tmp_path, split).first_layer
    assert found is not None
    assert right.first_layer is not None
    assert np.allclose(found, right.first_layer, atol=1e-5)


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_a_wrong_mean_in_an_ir_is_named(right: Evidence, small_run: Path, tmp_path: Path, precision: str) -> None:
    mean = tuple(float(value) for value in MEAN * [1, 1, 0.97])
    path = make(Fault("", f"IR {precision}", preprocessing={"mean": mean}), right.card, onnx_of(small_run), tmp_path)
    claims: Any = {"FP32": "f32", "FP16": "FP16"}[precision]
    allowed = {"f32": F32, "FP16": Error(2e-3, 6e-3)}[claims]
    cause = find_cause(evidence_of_file(right, path, claims, allowed, tmp_path))
    assert named(cause, "input").startswith("blue's mean is 100.")


# None


def test_a_right_model_has_no_cause(right: Evidence) -> None:
    assert find_cause(right) is None


def test_a_right_model_within_its_tolerance_has_no_cause(right: Evidence) -> None:
    noise = np.random.default_rng(0).standard_normal(right.expected.logits.shape).astype(np.float32)
    assert find_cause(with_logits(right, right.expected.logits + 1e-6 * noise)) is None


def test_noise_has_no_cause(right: Evidence) -> None:
    noise = np.random.default_rng(0).standard_normal(right.expected.logits.shape).astype(np.float32)
    assert find_cause(with_logits(right, right.expected.logits + 1e-2 * noise)) is None


@pytest.mark.parametrize("layer", ["backbone.stem.0", "backbone.layer2.0.conv1", "decode_head.bottleneck.conv"])
def test_a_wrong_layer_has_no_cause_here(right: Evidence, layer: str) -> None:
    assert find_cause(given(right, right.tensor, with_wrong_layer(right.network, layer))) is None


def with_wrong_layer(network: PSPNet, name: str) -> PSPNet:
    changed = sharing_copy(network)
    layer = changed.get_submodule(name)
    weight = layer.weight.clone()
    weight[0] *= 1.2
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return changed


def test_two_faults_have_no_cause(right: Evidence) -> None:
    swapped = given(right, MISTAKES["red and blue are swapped"](right.image[..., ::-1].astype(np.float64)))
    assert find_cause(with_labels(swapped, LABELS["labels are too low by 1"])) is None
    assert find_cause(with_logits(swapped, softmax(swapped.found.logits))) is None
    tensor = MISTAKES["the mean is missing"](right.image[..., ::-1].astype(np.float64))
    wrong = with_wrong_layer(right.network, "backbone.layer2.0.conv1")
    assert find_cause(given(right, tensor, wrong)) is None


def test_two_faults_in_mean_and_order_are_both_named(right: Evidence) -> None:
    tensor = normal(right.image.astype(np.float64), 1.05 * MEAN)
    what = named(find_cause(given(right, tensor)), "input")
    assert what.startswith("red and blue are swapped; the mean is [129.859, 122.094, 108.70")


def test_no_further_hypothesis_is_tested_after_the_given_time(right: Evidence) -> None:
    evidence = given(right, MISTAKES["the mean is missing"](right.image[..., ::-1].astype(np.float64)))
    assert find_cause(evidence, seconds=0) is None


def test_the_message_has_the_cause_and_its_figures(right: Evidence) -> None:
    evidence = given(right, MISTAKES["the mean is missing"](right.image[..., ::-1].astype(np.float64)))
    words = str(find_cause(evidence))
    assert words.startswith("Most likely: the mean is missing (with this fault the reference is ")
    assert words.endswith(f"without it {evidence.difference.rms:.1e})")
