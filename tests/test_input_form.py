"""Images in the slots of a batch, as bytes or floats, channels first or last: each gets its own answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
import voc
import yaml
from click.testing import CliRunner
from conftest import LENIENT, Cli, slow
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import read as read_manifest
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cli import cli as command_line
from pspnet_convert.commands.evaluate.labelling import open_labeller
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.export_onnx.write_onnx import write_onnx
from pspnet_convert.commands.verify.inputs import sheet, verification_inputs
from pspnet_convert.errors import ContractError
from pspnet_convert.image_shape import DYNAMIC, MAX_BATCH
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import PSPNet, build_network
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend
from pspnet_convert.runtimes.input_form import PLAIN, InputForm, batch_sizes, batches, pad_batch
from pspnet_convert.runtimes.io_signature import onnx_signature
from pspnet_convert.runtimes.model_file import ModelFile

pytestmark = pytest.mark.openvino

SIZE = (3, 72, 64)
BYTES_LAST = InputForm("u8", "NHWC")
# The options of a run; the batch and the input form of its IR.
RUNS: dict[str, tuple[list[str], int, InputForm]] = {
    "three": (["--batch", "3", "--input-type", "u8", "--input-layout", "NHWC"], 3, BYTES_LAST),
    "any": (["--batch", "dynamic", "--input-type", "u8"], DYNAMIC, InputForm("u8")),
    "any, as written": (["--batch", "dynamic", "--no-fold-pyramid"], DYNAMIC, PLAIN),
    "two, as written": (["--batch", "2", "--no-fold-pyramid", "--input-layout", "NHWC"], 2, InputForm("f32", "NHWC")),
}
forms = st.builds(InputForm, st.sampled_from(["f32", "u8", "u16"]), st.sampled_from(["NCHW", "NHWC"]))


@pytest.fixture(scope="module")
def runs(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The output folder of one of RUNS, done once. Read only."""
    done: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp("run")
            arguments = ["run", str(small.folder), "-o", str(done[name]), *RUNS[name][0]]
            result = CliRunner().invoke(command_line, arguments)
            assert result.exit_code == 0, result.output
        return done[name]

    return folder_of


@pytest.fixture(params=list(RUNS))
def made(request: pytest.FixtureRequest, runs: Callable[[str], Path]) -> tuple[Path, int, InputForm]:
    """The model's folder of each run, its batch and its form."""
    _, batch, form = RUNS[request.param]
    return runs(request.param) / "public" / "small-standin", batch, form


@pytest.fixture
def three(runs: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the run of three images of bytes at a time, to break."""
    return shutil.copytree(runs("three"), tmp_path / "three")


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(5).integers(0, 256, (count, 72, 64, 3), dtype=np.uint8))


def onnx_of(folder: Path) -> Path:
    return folder / "small-standin.onnx"


def ir_of(folder: Path, precision: str = "FP32") -> Path:
    return folder / precision / "small-standin.xml"


# Images in a tensor, and in batches


@given(form=forms, count=st.integers(1, 4), height=st.integers(1, 5), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_value_is_where_the_layout_says(form: InputForm, count: int, height: int, width: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    tensor = form.tensor(list(images))
    assert tensor.dtype == form.dtype
    assert tensor.flags["C_CONTIGUOUS"]
    assert tensor.shape == form.ordered((count, 3, height, width))
    for slot, row, column, colour in np.ndindex(images.shape):
        place = {"N": slot, "C": colour, "H": row, "W": column}
        assert tensor[tuple(place[axis] for axis in form.layout)] == images[slot, row, column, colour]


@given(items=st.lists(st.integers()), batch=st.sampled_from([DYNAMIC, *range(1, 10)]))
def test_groups_hold_all_in_order_and_are_as_large_as_the_batch(items: list[int], batch: int) -> None:
    found = list(batches(items, batch))
    assert [item for group in found for item in group] == items
    if batch == DYNAMIC:
        assert {len(group) for group in found[:-1]} <= {1, 3}
        assert all(pad_batch(group, batch) == group for group in found)
    else:
        assert all(len(group) == batch for group in found[:-1])
        assert all(len(pad_batch(group, batch)) == batch for group in found)
        assert all(pad_batch(group, batch)[: len(group)] == group for group in found)


def test_no_image_is_read_before_its_group_is_run() -> None:
    taken: list[int] = []

    def reading() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    next(batches(reading(), 2))
    assert taken == [0, 1]


@pytest.mark.parametrize("batch", [1, 2, 7, MAX_BATCH, DYNAMIC])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (72, 64), (97, 9)])
def test_verification_has_another_image_for_each_slot(small: ModelCard, batch: int, height: int, width: int) -> None:
    inputs = verification_inputs(small, (batch, 3, height, width))
    slots = sum(batch_sizes(batch))
    assert len(inputs) == slots
    assert len({entry.name for entry in inputs}) == slots
    assert inputs[0].name == "sheet"
    assert np.array_equal(inputs[0].image[:, :, ::-1], sheet(height, width, small.input))
    if (height, width) != (8, 8):  # at 8x8 the sheet has flat parts
        assert len({entry.image.tobytes() for entry in inputs}) == slots


# The files are as requested, and each slot has its own answer


def test_inputs_and_outputs_are_as_requested(made: tuple[Path, int, InputForm]) -> None:
    folder, batch, form = made
    model = onnx.load(str(onnx_of(folder)))
    onnx.checker.check_model(str(onnx_of(folder)), full_check=True)
    (given_,), (found,) = onnx_signature(model)
    assert (given_.dtype, given_.shape) == ("float32", (batch, *SIZE))
    assert (found.dtype, found.shape) == ("int64", (batch, 1, *SIZE[1:]))
    names = [value.type.tensor_type.shape.dim[0].dim_param for value in [*model.graph.input, *model.graph.output]]
    assert names == (["batch", "batch"] if batch == DYNAMIC else ["", ""])
    for precision in ("FP32", "FP16"):
        ir = openvino.Core().read_model(str(ir_of(folder, precision)))
        assert ir.inputs[0].get_names() == {"input.1"}
        assert ir.inputs[0].get_element_type() == getattr(openvino.Type, form.type)
        assert ir.inputs[0].get_partial_shape() == openvino.PartialShape(list(form.ordered((batch, *SIZE))))
        assert ir.inputs[0].get_node().get_layout() == openvino.Layout(form.layout)
        assert ir.outputs[0].get_names() == {"segmentation_map"}
        assert ir.outputs[0].get_partial_shape() == openvino.PartialShape([batch, 1, *SIZE[1:]])


def test_the_manifest_has_the_requested_options(made: tuple[Path, int, InputForm]) -> None:
    folder, batch, form = made
    stages = read_manifest(folder)["stages"]
    assert stages["export-onnx"]["options"]["input_shape"] == [batch, *SIZE]
    assert stages["to-ir"]["options"]["input_type"] == form.type
    assert stages["to-ir"]["options"]["input_layout"] == form.layout
    slots = {"three": 3, 2: 2, 3: 3, DYNAMIC: 4}[batch]
    assert stages["verify"]["result"]["inputs"] == ["sheet", *(f"sheet-{number}" for number in range(2, slots + 1))]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_slot_answers_its_own_image_as_the_default_ir_does(
    small: ModelCard, small_run: Path, made: tuple[Path, int, InputForm], count: int
) -> None:
    folder, batch, form = made
    plain = OpenVinoBackend(ir_of(small_run / "public" / "small-standin"), small)
    shape = (batch, *SIZE)
    for backend in (OnnxBackend(onnx_of(folder), small, shape), OpenVinoBackend(ir_of(folder), small, shape, form)):
        found = list(backend.run(pictures(count)))
        assert len(found) == count
        for one, expected in zip(found, plain.run(pictures(count))):
            assert np.abs(one.logits - expected.logits).max() <= 1e-4 * np.abs(expected.logits).max()


@pytest.fixture(scope="module")
def network(small: ModelCard) -> PSPNet:
    return build_network(small, load_checkpoint(small.folder / small.checkpoint.name, small))


@pytest.mark.slow
@settings(max_examples=8)
@given(
    batch=st.sampled_from([DYNAMIC, 1, 2, 3, 4]),
    count=st.integers(1, 4),
    height=st.integers(32, 80),
    width=st.integers(32, 80),
    seed=st.integers(0, 2**31),
)
def test_each_slot_of_a_folded_network_has_the_references_logits(
    small: ModelCard,
    network: PSPNet,
    tmp_path_factory: pytest.TempPathFactory,
    batch: int,
    count: int,
    height: int,
    width: int,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("folded") / "x.onnx"
    write_onnx(network, small, path, ExportOptions((1, 3, height, width), batch), {"name": "small"})
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    found = list(OnnxBackend(path, small, (batch, 3, height, width)).run(list(images)))
    mean, scale = np.float32(small.input.mean), np.float32(small.input.scale)
    for image, prediction in zip(images, found):
        values = ((image[:, :, ::-1] - mean) / scale).transpose(2, 0, 1)[None]
        expected = network(torch.from_numpy(np.ascontiguousarray(values)))[0].numpy()
        assert np.abs(prediction.logits - expected).max() <= 3e-5 * np.abs(expected).max()


# A file that is not as requested


@pytest.mark.parametrize(
    ("batch", "form"),
    [
        (1, BYTES_LAST),
        (4, BYTES_LAST),
        (DYNAMIC, BYTES_LAST),
        (3, PLAIN),
        (3, InputForm("u8")),
        (3, InputForm("f32", "NHWC")),
    ],
)
def test_an_ir_of_another_batch_or_form_breaks_the_contract(
    small: ModelCard, runs: Callable[[str], Path], batch: int, form: InputForm
) -> None:
    path = ir_of(runs("three") / "public" / "small-standin")
    with pytest.raises(ContractError, match=r"its input is input\.1 uint8 \[3, 72, 64, 3\], expected input\.1 "):
        OpenVinoBackend(path, small, (batch, *SIZE), form)
    with pytest.raises(ContractError, match="its input is"):
        open_labeller(ModelFile("IR FP32", path), small, (batch, *SIZE), form)


@pytest.mark.parametrize("options", [[], ["--batch", "3", "--input-type", "u8"], ["--batch", "dynamic"]])
def test_files_from_elsewhere_must_take_what_the_options_say(
    cli: Cli, small: ModelCard, three: Path, tmp_path: Path, options: list[str]
) -> None:
    folder = three / "public" / "small-standin"
    files = ["--ir", ir_of(folder), "--onnx", onnx_of(folder)]
    checkpoint = ["--checkpoint", small.folder / small.checkpoint.name]
    result = cli("verify", small.folder, "-o", tmp_path / "out", *checkpoint, *files, *options)
    assert result.exit_code == 9
    assert "contract: " in result.error
    right = RUNS["three"][0]
    assert cli("verify", small.folder, "-o", tmp_path / "out", *checkpoint, *files, *right).exit_code == 0


def test_files_from_elsewhere_may_be_of_another_size(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    shape = ["--input-shape", "1,3,40,104"]
    assert cli("run", small.folder, "-o", workspace, "--precision", "FP32", *shape).exit_code == 0
    folder = workspace / "public" / "small-standin"
    files = ["--ir", ir_of(folder), "--onnx", onnx_of(folder)]
    arguments = ["verify", small.folder, "-o", tmp_path / "out", "--checkpoint", folder / small.checkpoint.name, *files]
    result = cli(*arguments)
    assert result.exit_code == 9
    assert "expected input.1 float32 [1, 3, 72, 64]" in result.error
    assert cli(*arguments, *shape).exit_code == 0


def test_a_broken_contract_is_reported_once_for_any_number_of_images(
    cli: Cli, small: ModelCard, three: Path, tmp_path: Path
) -> None:
    photos = [photo(tmp_path / f"{number}.png", number, 50, 80) for number in range(9)]
    images = [word for path in photos for word in ("--images", path)]
    checkpoint = ["--checkpoint", small.folder / small.checkpoint.name]
    file = ["--ir", ir_of(three / "public" / "small-standin")]
    result = cli("verify", small.folder, "-o", tmp_path / "out", *checkpoint, *file, *images, "--json")
    assert result.exit_code == 9
    printed = result.json()["stages"][0]["result"]
    assert len(printed["inputs"]) > 8
    assert len(faults_of(printed["comparisons"][0], "contract")) == 1


def test_an_ir_that_is_replaced_by_one_of_another_form_fails(
    cli: Cli, small: ModelCard, small_run: Path, three: Path
) -> None:
    """As if a deployment script replaced the service's IR with the default one."""
    folder = three / "public" / "small-standin"
    for part in (ir_of(folder), ir_of(folder).with_suffix(".bin")):
        shutil.copy(small_run / "public" / "small-standin" / "FP32" / part.name, part)
    result = cli("verify", small.folder, "-o", three)
    assert result.exit_code == 9
    assert "contract: " in result.error
    assert "expected input.1 uint8 [3, 72, 64, 3]" in result.error
    for command in (["segment", small.folder / "x.png", "--model", small.folder], ["quantize", small.folder]):
        refused = cli(*command, "-o", three)
        assert refused.exit_code == 11
        assert "expected input.1 uint8 [3, 72, 64, 3]" in refused.error


def with_gathered_input(path: Path, slots: list[int]) -> None:
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.input[:] = ["gathered" if name == "input.1" else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(slots, np.int64), "slots"))
    model.graph.node.insert(0, onnx.helper.make_node("Gather", ["input.1", "slots"], ["gathered"], axis=0))
    onnx.save(model, str(path))


@pytest.mark.parametrize("slots", [[1, 0, 2], slow([0, 0, 0]), slow([0, 1, 1])])
def test_a_slot_that_answers_another_slots_image_fails(
    cli: Cli, small: ModelCard, three: Path, slots: list[int]
) -> None:
    path = onnx_of(three / "public" / "small-standin")
    with_gathered_input(path, slots)
    assert cli("to-ir", small.folder, "-o", three, *RUNS["three"][0][2:]).exit_code == 0
    result = cli("verify", small.folder, "-o", three, "--json")
    assert result.exit_code == 9
    rows = result.json()["stages"][0]["result"]["comparisons"]
    assert [row["passed"] for row in rows] == [False, False, False]
    faults = faults_of(rows[0], "logits")
    wrong = [slot for slot, answered in enumerate(slots) if slot != answered]
    names = ["sheet", "sheet-2", "sheet-3"]
    assert [fault.partition(":")[0] for fault in faults] == [names[slot] for slot in wrong]


def test_a_dynamic_model_that_gives_one_answer_for_all_is_caught(
    cli: Cli, small: ModelCard, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    """Neither its inputs and outputs nor a run with one image shows the fault."""
    output = shutil.copytree(runs("any"), tmp_path / "any")
    path = onnx_of(output / "public" / "small-standin")
    with_gathered_input(path, [0])
    with pytest.raises(ContractError, match="gives 1 label maps and 1 logits for 3 images"):
        list(OnnxBackend(path, small, (DYNAMIC, *SIZE)).run(pictures(4)))
    report = tmp_path / "junit.xml"
    result = cli("verify", small.folder, "-o", output, "--junit", report, "--json")
    assert result.exit_code == 9
    assert "contract: " in result.error
    assert "for 3 images" in result.error
    assert "for 3 images" in report.read_text("utf-8")
    rows = result.json()["stages"][0]["result"]["comparisons"]
    assert {row["backend"]: len(faults_of(row, "contract")) for row in rows} == {"ONNX": 1, "IR FP32": 0, "IR FP16": 0}
    assert {row["backend"]: row["passed"] for row in rows} == {"ONNX": False, "IR FP32": True, "IR FP16": True}


def faults_of(row: dict[str, Any], name: str) -> list[str]:
    return next(check["faults"] for check in row["checks"] if check["name"] == name)


def test_only_the_batch_may_be_dynamic(small: ModelCard, runs: Callable[[str], Path], tmp_path: Path) -> None:
    model = openvino.Core().read_model(str(ir_of(runs("any, as written") / "public" / "small-standin")))
    path = tmp_path / "x.xml"
    model.reshape([-1, 3, -1, 64])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    with pytest.raises(ContractError, match=r"its input is input\.1 float32 \[-1, 3, -1, 64\]"):
        OpenVinoBackend(path, small, (DYNAMIC, *SIZE))


# Its users


def photo(path: Path, seed: int, width: int, height: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("name", ["three", "any"])
def test_segment_sees_the_same_in_each_slot(
    cli: Cli, small: ModelCard, workspace: Path, runs: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    photos = [photo(tmp_path / f"{number}.png", number, 50 + 20 * number, 80) for number in range(5)]
    other = shutil.copytree(runs(name), tmp_path / "other")
    for output in (workspace, other):
        result = cli("segment", *photos, "--model", small.folder, "-o", output)
        assert result.exit_code == 0, result.stderr
    for path in photos:
        pair = [
            np.asarray(Pillow.open(output / "public" / "small-standin" / "segmented" / f"{path.stem}.labels.png"))
            for output in (workspace, other)
        ]
        assert pair[0].shape == pair[1].shape
        assert (pair[0] == pair[1]).mean() > 0.999


@pytest.mark.parametrize("name", ["three", "any"])
def test_labels_come_in_order_for_any_number_of_images(
    small: ModelCard, small_run: Path, runs: Callable[[str], Path], name: str
) -> None:
    _, batch, form = RUNS[name]
    shape = (batch, *SIZE)
    folder = runs(name) / "public" / "small-standin"
    expected = [
        p.labels for p in OpenVinoBackend(ir_of(small_run / "public" / "small-standin"), small).run(pictures(8))
    ]
    for file in (ModelFile("IR FP32", ir_of(folder)), ModelFile("ONNX", onnx_of(folder))):
        labeller = open_labeller(file, small, shape, form)
        for count in (1, 2, 7, 8):  # a batch that is not full is run too, and the next one starts empty
            waiting: list[Any] = []
            found = []
            for image in pictures(count):
                if len(waiting) == labeller.at_once:
                    found.append(waiting.pop(0)().labels)
                waiting.append(labeller.start(image))
            found += [wait().labels for wait in waiting]
            assert all((one == labels).mean() > 0.999 for one, labels in zip(found, expected))
            assert len(found) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", ["three", "any"])
def test_int8_keeps_the_contract_of_its_fp32(
    cli: Cli, small: ModelCard, runs: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    output = shutil.copytree(runs(name), tmp_path / "int8")
    result = cli("quantize", small.folder, "-o", output, *LENIENT)
    assert result.exit_code == 0, result.stderr
    folder = output / "public" / "small-standin"
    _, batch, form = RUNS[name]
    assert len(list(OpenVinoBackend(ir_of(folder, "INT8"), small, (batch, *SIZE), form).run(pictures(4)))) == 4
    assert cli("segment", photo(tmp_path / "a.png", 1, 50, 50), "--model", small.folder, "-o", output,
               "--precision", "INT8").exit_code == 0  # fmt: skip


@pytest.mark.slow
def test_rebuild_makes_the_same_files(cli: Cli, runs: Callable[[str], Path]) -> None:
    for name in ("three", "any, as written"):
        result = cli("rebuild", "--check", runs(name) / "public" / "small-standin" / "manifest.json", "--json")
        assert result.exit_code == 0, result.stderr
        assert len(result.json()["files"]) == 5


def test_the_page_says_what_the_ir_takes(runs: Callable[[str], Path]) -> None:
    page = {name: (runs(name) / "public" / "small-standin" / "report.html").read_text("utf-8") for name in RUNS}
    assert "uint8 3 x 72 x 64 x 3, BGR" in page["three"]
    assert "int64 3 x 1 x 72 x 64, class" in page["three"]
    assert "uint8 N x 3 x 72 x 64, BGR" in page["any"]
    assert "float32 N x 3 x 72 x 64, BGR" in page["any, as written"]


# What has changed is done again, and nothing else


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ([], []),
        slow(["--batch", "2"], ["export-onnx", "to-ir", "verify"]),
        (["--batch", "dynamic"], ["export-onnx", "to-ir", "verify"]),
        slow(["--input-type", "u8"], ["to-ir", "verify"]),
        (["--input-layout", "NHWC"], ["to-ir", "verify"]),
    ],
)
def test_stages_are_done_again_when_their_options_change(
    cli: Cli, small: ModelCard, workspace: Path, options: list[str], again: list[str]
) -> None:
    for expected in (again, []):
        result = cli("run", small.folder, "-o", workspace, *options, "--json")
        assert result.exit_code == 0, result.stderr
        assert [stage["stage"] for stage in result.json()["stages"] if not stage["skipped"]] == expected


def test_the_defaults_written_out_change_nothing(cli: Cli, small: ModelCard, workspace: Path) -> None:
    options = ["--batch", 1, "--input-type", "f32", "--input-layout", "NCHW", "--input-shape", "1,3,72,64"]
    result = cli("run", small.folder, "-o", workspace, *options, "--json")
    assert all(stage["skipped"] for stage in result.json()["stages"])


def test_onnx_runtime_takes_any_number_of_images(runs: Callable[[str], Path]) -> None:
    path = onnx_of(runs("any") / "public" / "small-standin")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 2, 6):
        (labels,) = session.run(None, {"input.1": np.zeros((count, *SIZE), np.float32)})
        assert labels.shape == (count, 1, *SIZE[1:])


def test_irs_of_another_card_are_refused(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    """The IR contains the mean; the names of the classes come from the card."""
    data = yaml.safe_load((small.folder / "model.yml").read_text())
    data["input"]["mean"][0] += 1
    del data["testing"]  # or verification sees that the mean is not the config's
    model = [tmp_path / "model.yml", "-o", workspace]
    model[0].write_text(yaml.safe_dump(data))
    shutil.copy(small.folder / small.checkpoint.name, tmp_path)
    picture = photo(tmp_path / "a.png", 1, 50, 50)
    for command in (["segment", picture, "--model", *model], ["quantize", *model], ["verify", *model]):
        result = cli(*command)
        assert result.exit_code == 11, result.stderr
        assert (
            "is of an earlier conversion. It was converted with another card. Run `pspnet-convert run` again"
            in result.error
        )
    assert cli("run", *model).exit_code == 0
    assert cli("segment", picture, "--model", *model).exit_code == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [slow("three", ["--batch", "3", "--opset", "19"]), slow("three", ["--batch", "2"]), (None, ["--opset", "19"])],
)
def test_irs_of_an_earlier_onnx_are_refused(
    cli: Cli,
    small: ModelCard,
    runs: Callable[[str], Path],
    small_run: Path,
    tmp_path: Path,
    name: str | None,
    options: list[str],
) -> None:
    output = shutil.copytree(small_run if name is None else runs(name), tmp_path / "out")
    model = [small.folder, "-o", output]
    dataset = ["--dataset", voc.write(tmp_path / "voc", small, [(72, 64), (50, 90)]), "--protocol", "pad"]
    picture = photo(tmp_path / "a.png", 1, 50, 50)
    assert cli("export-onnx", *model, *options).exit_code == 0
    for command in (
        ["verify", *model],
        ["segment", picture, "--model", *model],
        ["segment", picture, "--precision", "FP16", "--model", *model],
        ["evaluate", *model, *dataset, "--backend", "FP16"],
        ["quantize", *model],
    ):
        result = cli(*command)
        assert result.exit_code == 11, result.stderr
        assert "small-standin.xml: is of an earlier conversion. Run `pspnet-convert to-ir` first" in result.error
    result = cli("evaluate", *model, *dataset, "--json")
    assert [score["backend"] for score in result.json()["result"]["scores"]] == ["PyTorch", "ONNX"]
    assert result.stderr.count("is of an earlier conversion, and is not evaluated") == 2
    assert cli("to-ir", *model, "--precision", "FP32").exit_code == 0
    assert cli("verify", *model).exit_code == 0
    result = cli("segment", picture, "--precision", "FP16", "--model", *model)
    assert result.exit_code == 11
    assert "is of an earlier conversion. Run `pspnet-convert to-ir --precision FP16` first" in result.error
