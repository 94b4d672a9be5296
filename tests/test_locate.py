"""The first wrong layer of a model is named, in ONNX and IR, in the workspace's own and in files from elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fault_catalogue
import faults
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from conftest import slow
from faults import Edit, Fault
from make_standin_checkpoint import make_standin
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.export_onnx.write_onnx import write_onnx, write_plain_onnx
from pspnet_convert.commands.verify.inputs import verification_inputs
from pspnet_convert.commands.verify.layer_search import GROUP, LayerSearch, spread
from pspnet_convert.commands.verify.locate import InspectedModel, LocatedLayer, _described_step, locate
from pspnet_convert.commands.verify.right_graph import read_right_graph
from pspnet_convert.image_shape import DYNAMIC
from pspnet_convert.pytorch.network import PSPNet
from pspnet_convert.runtimes.backends import normalised
from pspnet_convert.runtimes.input_form import PLAIN, Image, InputForm
from pspnet_convert.runtimes.io_signature import read_onnx
from pspnet_convert.runtimes.onnx_taps import OnnxTaps

LAYER = "backbone.layer3.1.conv2"
WEIGHT = f"{LAYER}.weight"
FILES = ("ONNX", "IR FP32", "IR FP16")


class Models:
    """Faulty models of one card, and what is located in them."""

    def __init__(self, card: ModelCard, folder: Path) -> None:
        self.card, self.folder = card, folder
        self.network: PSPNet = fault_catalogue.network_of(card)
        self.options = ExportOptions(card.input.shape)
        self.right, self.plain = folder / "right.onnx", folder / "plain.onnx"
        write_onnx(self.network, card, self.right, self.options, {"name": card.name})
        write_plain_onnx(self.network, card, self.plain)
        self.images: list[Image] = [entry.image for entry in verification_inputs(card, card.input.shape)]

    def locate(self, fault: Fault, *, onnx_path: Path | None = None, **changes: Any) -> LocatedLayer | None:
        """In the file that `fault` makes of the right ONNX, or of `onnx_path`, a file from elsewhere."""
        path = faults.make(fault, self.card, onnx_path or self.right, self.folder)
        exported = self.options if onnx_path is None else None
        precision = fault_catalogue.PRECISIONS[fault.file]
        model = InspectedModel(path, precision, self.card.input.shape, PLAIN, exported, self.right)  # type: ignore[arg-type]
        return locate(self.network, self.card, self.images, model, self.folder, **changes)


@pytest.fixture(scope="module")
def models(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(small, tmp_path_factory.mktemp("locate"))


def weight(change: faults.Change, name: str = WEIGHT) -> Edit:
    return faults._weight(name, change)


def in_layer(name: str, op: str) -> Edit:
    """The node `name` computes `op` instead."""

    def edit(model: onnx.ModelProto) -> None:
        faults._node(model, name).op_type = op

    return edit


ONE_CHANNEL = weight(lambda w: faults._with(w, 0, 1.05 * w[0]))
MIRRORED = weight(lambda w: w[..., ::-1])


# The workspace's own


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_named_in_a_right_model(models: Models, file: str) -> None:
    assert models.locate(Fault("none", file)) is None


@pytest.mark.parametrize("file", FILES)
def test_a_layer_with_a_wrong_weight_is_named(models: Models, file: str) -> None:
    found = models.locate(Fault("one channel", file, graph=ONE_CHANNEL))
    assert found is not None
    assert (found.layer, found.op, found.tensor) == (LAYER, "Conv", f"{LAYER}.Conv")
    assert found.error_before.rms < 5e-3 < found.error_after.rms
    assert found.repeats
    assert found.words.startswith(f"{LAYER} (Conv): its input is off by ")


@pytest.mark.parametrize(
    ("edit", "layer", "op"),
    [
        (in_layer("decode_head.Relu.2", "Identity"), "decode_head", "Relu"),
        (lambda m: faults._set(faults._node(m, "logits.Resize"), mode="nearest"), "logits", "Resize"),
        (weight(np.zeros_like, "decode_head.pool.rows"), "decode_head.pool", "MatMul"),
    ],
)
@pytest.mark.parametrize("file", ["ONNX", "IR FP32"])
def test_layers_without_weights_are_named(models: Models, file: str, edit: Edit, layer: str, op: str) -> None:
    found = models.locate(Fault("fault", file, graph=edit))
    assert found is not None
    assert (found.layer, found.op) == (layer, op)


def test_the_first_of_two_wrong_layers_is_named(models: Models) -> None:
    both = faults._all_of(weight(np.zeros_like, "decode_head.conv_seg.bias"), MIRRORED)
    found = models.locate(Fault("two", "ONNX", graph=both))
    assert found is not None
    assert found.layer == LAYER


EITHER = "preprocessing or backbone.stem.0"


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({"mean": (120.0, 100.0, 90.0)}, {"preprocessing"}),
        ({"scale": (30.0, 57.12, 57.375)}, {"preprocessing", EITHER}),  # ovc has the scale in the weights
        # The weights of the first layer might as well have their input channels in the wrong order.
        ({"color_order": "BGR", "mean": (103.53, 116.28, 123.675), "scale": (57.375, 57.12, 58.395)}, {EITHER}),
    ],
)
def test_wrong_preprocessing_is_not_blamed_on_the_first_layer(
    models: Models, changes: Mapping[str, Any], layers: set[str]
) -> None:
    found = models.locate(Fault("mean", "IR FP32", preprocessing=dict(changes)))
    assert found is not None
    assert found.layer in layers


def test_the_first_layer_is_not_blamed_on_the_preprocessing(models: Models) -> None:
    edit = weight(lambda w: faults._with(w, 0, 2 * w[0]), "backbone.stem.0.weight")
    found = models.locate(Fault("first", "IR FP32", graph=edit))
    assert found is not None
    assert found.layer == "backbone.stem.0"
    assert "its input is the image" in found.words


def test_another_network_has_no_first_wrong_layer(models: Models, tmp_path: Path) -> None:
    path = tmp_path / "auxiliary.onnx"
    write_plain_onnx(fault_catalogue.with_auxiliary_head(models.network), models.card, path)
    assert models.locate(Fault("auxiliary", "ONNX", graph=faults.replaced_by(path))) is None


@pytest.mark.parametrize(("batch", "form"), [(3, InputForm("u8", "NHWC")), slow(DYNAMIC, PLAIN)])
def test_batches_and_other_input_forms(models: Models, batch: int, form: InputForm, tmp_path: Path) -> None:
    card, shape = models.card, (batch, *models.card.input.shape[1:])
    options = ExportOptions(card.input.shape, batch)
    write_onnx(models.network, card, tmp_path / "right.onnx", options, {"name": card.name})
    images = [entry.image for entry in verification_inputs(card, shape)]
    for edit, layer in ((None, None), (MIRRORED, LAYER)):
        path = faults.make(Fault("fault", "IR FP32", graph=edit), card, tmp_path / "right.onnx", tmp_path, form)
        model = InspectedModel(path, "f32", shape, form, options)
        found = locate(models.network, card, images, model, tmp_path)
        assert (found and found.layer) == layer


# Bounded memory


class Counted(OnnxTaps):
    """Notes the bytes of the tensors of each run."""

    kept: list[int]

    def run(self, names: Collection[str], given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        found = super().run(names, given)
        self.kept.append(sum(value.nbytes for value in found.values()))
        return found


@pytest.mark.parametrize("group", [GROUP, 200_000])
def test_groups_are_bounded_and_find_the_same_layer(models: Models, group: int) -> None:
    path = faults.make(Fault("mirrored", "ONNX", graph=MIRRORED), models.card, models.right, models.folder)
    right = read_right_graph(models.right, 1, fp16=False)
    found = Counted(read_onnx(path), path)
    found.kept = []
    image = normalised(models.images[:1], models.card.input)
    wrong = LayerSearch(right, found, image, image, group).first_wrong()
    assert wrong is not None
    assert wrong.step.target == f"{LAYER}.Conv"
    largest = max(right.sizes.values())
    assert (len(found.kept) > 1) == (group != GROUP)
    assert max(found.kept) <= group + 3 * largest  # the ends of a step come on top


def test_spread_takes_as_many_as_fit() -> None:
    sizes = {str(number): 10 for number in range(20)}
    assert spread(list(sizes), sizes, 1000) == list(sizes)
    some = spread(list(sizes), sizes, 50)
    assert len(some) == 5
    assert some[-1] == "19"
    assert spread(["0", "1"], sizes, 1) == ["0", "1"]


# A fusion of the runtime


class Fusing(OnnxTaps):
    """A runtime that computes LAYER wrongly, unless its input is read as well."""

    def run(self, names: Collection[str], given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        found = super().run(names, given)
        if "backbone.layer3.1.relu.Relu" in names:
            return found
        return {name: value * 1.5 if name == f"{LAYER}.Conv" else value for name, value in found.items()}


def test_a_difference_that_vanishes_when_tensors_are_read_is_a_fusion(models: Models) -> None:
    right = read_right_graph(models.right, 1, fp16=False)
    image = normalised(models.images[:1], models.card.input)
    found = Fusing(read_onnx(models.right), models.right)
    names = ["backbone.layer3.0.relu.Relu.2", "backbone.layer3.1.conv1.Conv", "backbone.layer3.1.relu.Relu"]
    names.append(f"{LAYER}.Conv")
    search = LayerSearch(right, found, image, image)
    assert search._first_wrong(names, ["backbone.layer3.0.Add"]) is None  # all are read at once
    coarse = replace(search, group=1)
    wrong = coarse._first_wrong(names, ["backbone.layer3.0.Add"])
    assert wrong is not None
    assert (wrong.step.target, wrong.vanishes) == (names[-1], True)
    again = coarse.again(wrong)
    assert again is not None
    assert again.vanishes
    said = _described_step(coarse, again, models.card.input, None)
    assert not said.repeats
    assert said.words.endswith("the difference vanishes when tensors inside it are read: a fusion of the runtime")


# The small model


@pytest.mark.parametrize("file", FILES)
def test_the_saved_small_model_gives_the_same_difference(models: Models, file: str, tmp_path: Path) -> None:
    folder = tmp_path / "layer"
    found = models.locate(Fault("one channel", file, graph=ONE_CHANNEL), save_to=folder)
    assert found is not None
    assert found.folder == folder
    inputs, outputs = dict(np.load(folder / "inputs.npz")), np.load(folder / "outputs.npz")
    assert tuple(inputs) == found.input_names
    if file == "ONNX":
        session = onnxruntime.InferenceSession(str(folder / "layer.onnx"))
        again = session.run(None, inputs)[0]
        assert [node.op_type for node in onnx.load(str(folder / "layer.onnx")).graph.node] == ["Conv"]
    else:
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        again = openvino.Core().compile_model(str(folder / "layer.xml"), "CPU", hint)(inputs)[0]
    assert np.allclose(again, outputs["found"], rtol=1e-4, atol=1e-6)
    wrong = np.abs(again - outputs["expected"]).max(axis=(0, 2, 3))
    assert wrong.argmax() == 0  # the channel with the wrong weights
    assert "inputs.npz" in (folder / "README.txt").read_text()


def test_an_earlier_small_model_is_replaced(models: Models, tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "layer.xml").write_text("old")
    models.locate(Fault("mirrored", "ONNX", graph=MIRRORED), save_to=tmp_path / "layer")
    names = {path.name for path in (tmp_path / "layer").iterdir()}
    assert names == {"layer.onnx", "inputs.npz", "outputs.npz", "README.txt"}


# Files from elsewhere


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_named_in_a_right_model_from_elsewhere(models: Models, file: str) -> None:
    assert models.locate(Fault("none", file), onnx_path=models.plain) is None


@pytest.mark.parametrize("group", [GROUP, 100_000])
@pytest.mark.parametrize("file", FILES)
def test_a_convolution_of_a_model_from_elsewhere_is_named(models: Models, file: str, group: int) -> None:
    edit = weight(lambda w: faults._with(w, 0, 1.5 * w[0]), f"network.{WEIGHT}")
    found = models.locate(Fault("one channel", file, graph=edit), onnx_path=models.plain, group=group)
    assert found is not None
    assert (found.layer, found.op) == (LAYER, "Conv")
    assert found.words.startswith(f"convolution 17 of the network, {LAYER}: ")
    assert found.repeats


def test_steps_between_convolutions_are_named_by_the_next_one(models: Models) -> None:
    edit = faults._all_of(lambda m: setattr(_of_kind(m, "Relu")[3], "op_type", "Identity"))
    found = models.locate(Fault("relu", "ONNX", graph=edit), onnx_path=models.plain)
    assert found is not None
    assert (found.layer, found.op) == ("before backbone.layer1.0.conv2", "Identity")


def test_steps_after_the_last_convolution_are_the_logits(models: Models) -> None:
    edit = faults._all_of(lambda m: faults._set(_of_kind(m, "Resize")[-1], mode="nearest"))
    found = models.locate(Fault("resize", "IR FP32", graph=edit), onnx_path=models.plain)
    assert found is not None
    assert found.layer == "logits"


def test_a_model_from_elsewhere_with_a_folded_pyramid(models: Models) -> None:
    found = models.locate(Fault("taps", "ONNX", graph=MIRRORED), onnx_path=models.right)
    assert found is not None
    assert found.layer == LAYER


def test_another_structure_has_no_first_wrong_layer(models: Models) -> None:
    def shorter(model: onnx.ModelProto) -> None:
        """Without the last block's second convolution."""
        conv = faults._node(model, "backbone.layer4.1.conv2.Conv")
        conv.op_type = "Identity"
        del conv.input[1:]
        del conv.attribute[:]

    assert models.locate(Fault("shorter", "ONNX", graph=shorter), onnx_path=models.right) is None


def test_a_convolution_that_is_run_in_another_order_is_paired_by_its_values(models: Models) -> None:
    def reordered(model: onnx.ModelProto) -> None:
        """A block's shortcut before its first convolution."""
        nodes = list(model.graph.node)
        convolutions = _of_kind(model, "Conv")
        shortcut = next(node for node in convolutions if "layer2.0.downsample.0.weight" in node.input[1])
        first = next(node for node in convolutions if "layer2.0.conv1.weight" in node.input[1])
        nodes.remove(shortcut)
        nodes.insert(nodes.index(first), shortcut)
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    wrong = weight(lambda w: 1.5 * w, "network.backbone.layer2.0.downsample.0.weight")
    for edit, layer in ((reordered, None), (faults._all_of(reordered, wrong), "backbone.layer2.0.downsample.0")):
        found = models.locate(Fault("order", "ONNX", graph=edit), onnx_path=models.plain)
        assert (found and found.layer) == layer


def _of_kind(model: onnx.ModelProto, op: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op]


# The catalogue


def layers_at_fault(fault: str, right: onnx.ModelProto) -> tuple[str, ...]:
    """The layers that may be named for a fault in the graph; none where no layer is at fault, or no single one."""
    taps = [node.name for node in right.graph.node if node.name.startswith("decode_head.taps.")]
    dilated = [n.name for n in right.graph.node if any(a.name == "dilations" and a.ints[0] == 4 for a in n.attribute)]
    return {
        "a bias off by 1 %": ("decode_head.conv_seg",),
        "no bias in the last layer": ("decode_head.conv_seg",),
        "two classes swapped": ("decode_head.conv_seg",),
        "input channels of the first layer reversed": ("backbone.stem.0", EITHER),
        "an input that nothing uses": ("backbone.stem.0",),
        "a bin of the pyramid dropped": (taps[-1].removesuffix(".Conv"),),
        "bins in another order": ("decode_head.projections.0",),
        "pooling by kernel and stride": ("decode_head.pool",),
        "cells of a bin in the opposite order": ("decode_head.pool",),
        # Of the bin 1, a single cell, nothing changes.
        "cells stretched with align_corners": ("decode_head.spreads.1",),
        "borders repeated instead of zeros": ("decode_head.spreads.0",),
        "a layer's dilation halved": (dilated[-1].removesuffix(".Conv"),),
        "a layer's padding on one side": (dilated[-1].removesuffix(".Conv"),),
        "a layer's stride in its second convolution": ("backbone.layer2.0.conv1",),
        "max pooling that pads at the end": ("backbone.maxpool",),
        "average instead of max pooling": ("backbone.maxpool",),
        "a ReLU left out": ("decode_head",),
        # In all layers. Of an IR by ovc, weights off at random are hard to tell from another scale in FP16.
        **dict.fromkeys(
            (
                "weights rounded to 8 bits", "weights rounded to FP16", "weights rounded to bf16",
                "a BatchNorm's eps of 1e-3",
            ), ("backbone.stem.0", "backbone.stem.3", EITHER)
        ),
        **dict.fromkeys(
            (
                "one channel of one layer off by 1 %", "one weight doubled", "two channels of one layer swapped",
                "kernels mirrored", "kernels transposed", "another checkpoint's weights in one layer",
                "one weight is not a number",
            ), (LAYER,)
        ),
        **dict.fromkeys(
            (
                "resized with align_corners", "resized without the half-pixel offset", "resized to the nearest",
                "resized by cubic interpolation", "argmin", "logits rounded to FP16",
                "probabilities instead of logits", "labels off by one", "labels counted from the end",
                "label map mirrored", "argmax over the rows", "logits instead of labels",
                "labels without the channel axis", "label map transposed",
            ), ("logits",)
        ),
    }.get(fault, ())  # fmt: skip


# No step of the graph is wrong: the label map has another type or name, or the image shows no tie.
NO_LAYER = {
    "the last of equal logits instead of the first", "the auxiliary head's output", "labels as float32",
    "another input name", "another output name", "a second input", "the batch left open",
}  # fmt: skip


def graph_faults(models: Models) -> list[Fault]:
    """Of the catalogue, those in the graph: in ONNX, IR FP32 and IR FP16."""
    card, folder = models.card, models.folder
    other, auxiliary, eps = (folder / f"{name}.onnx" for name in ("other", "auxiliary", "eps"))
    seeded = load_card(make_standin(card, folder / "other", seed=99))
    write_onnx(fault_catalogue.network_of(seeded), card, other, models.options, {"name": card.name})
    write_plain_onnx(fault_catalogue.with_auxiliary_head(models.network), card, auxiliary)
    write_onnx(fault_catalogue.with_eps(models.network, 1e-3), card, eps, models.options, {"name": card.name})
    made = [fault for fault in faults.all_faults(card, other, auxiliary, eps) if fault.graph is not None]
    return [*made, *(replace(fault, file="IR FP16") for fault in made if fault.file == "IR FP32")]


def outcome(fault: Fault, found: LocatedLayer | None, right: onnx.ModelProto) -> str:
    expected = layers_at_fault(fault.name, right)
    if fault.file == "IR FP16" and fault.name == "weights rounded to FP16":
        expected = ()  # as they should be
    if found is None:
        return "no layer at fault" if not expected else "not named"
    return "named" if found.layer in expected else f"named wrongly: {found.layer}"


@pytest.mark.slow
def test_the_catalogues_faults_are_named(models: Models) -> None:
    right = onnx.load(str(models.right))
    results = {(one.file, one.name): outcome(one, models.locate(one), right) for one in graph_faults(models)}
    for file in FILES:
        counts = [said for (of, _), said in results.items() if of == file]
        print(file, {said: counts.count(said) for said in sorted(set(counts))})
    assert {key: said for key, said in results.items() if said not in ("named", "no layer at fault")} == {}
    assert {name for (_, name), said in results.items() if said == "no layer at fault"} <= {
        *NO_LAYER, "weights rounded to FP16"
    }  # fmt: skip


@pytest.mark.parametrize("seed", [slow(seed) for seed in range(6)])
def test_nothing_is_named_in_right_models_of_random_networks(seed: int, tmp_path: Path) -> None:
    import random

    chance = random.Random(seed)
    models = Models(fault_catalogue.random_card(chance, tmp_path / "card", seed), tmp_path)
    for file in FILES:
        assert models.locate(Fault("none", file)) is None
        assert models.locate(Fault("none", file), onnx_path=models.plain) is None
