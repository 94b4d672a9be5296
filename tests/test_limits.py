"""A model from elsewhere that computes for hours or fills the memory ends in one line; the file that ships is run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from conftest import Cli
from onnx import helper
from slow_graphs import endless_loop, many_numbers, put_first

from pspnet_convert import errors, worker_process
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.answers import Answers, AnswersInChildren, answers_of
from pspnet_convert.commands.verify.candidates import candidates
from pspnet_convert.commands.verify.checks import check_as_shipped
from pspnet_convert.commands.verify.result import Comparison
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend, Prediction
from pspnet_convert.runtimes.child_model import ChildModel, OpenModel, memory_for
from pspnet_convert.runtimes.logit_error import Error
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.worker_process import Limits, Worker, WorkerError

SIZE = (72, 64)
GIGABYTES_100 = 25 * 10**9  # float32 numbers


@pytest.fixture
def onnx_path(small_run: Path) -> Path:
    return small_run / "public" / "small-standin" / "small-standin.onnx"


@pytest.fixture
def xml(small_run: Path) -> Path:
    return small_run / "public" / "small-standin" / "FP32" / "small-standin.xml"


def hostile_onnx(onnx_path: Path, change: Callable[[onnx.ModelProto], None], folder: Path) -> Path:
    model = onnx.load(str(onnx_path))
    change(model)
    path = folder / "hostile.onnx"
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("change", "seconds", "says"),
    [
        (lambda model: endless_loop(model, 10**12), "8", "it took more than 8 s. If the model is right"),
        (lambda model: many_numbers(model, GIGABYTES_100), "600", "bad_alloc (it may use "),
    ],
)
def test_an_onnx_that_never_ends_or_fills_the_memory_ends_in_one_line(
    cli: Cli,
    small: ModelCard,
    onnx_path: Path,
    tmp_path: Path,
    change: Callable[[onnx.ModelProto], None],
    seconds: str,
    says: str,
) -> None:
    path = hostile_onnx(onnx_path, change, tmp_path)
    checkpoint = small.folder / small.checkpoint.name
    arguments = ("-o", tmp_path / "out", "--checkpoint", checkpoint, "--timeout", seconds)
    result = cli("verify", small.folder, "--onnx", path, *arguments)
    assert result.exit_code == 11
    assert result.error.startswith(f"error: {path}: ") and says in result.error
    assert not list((tmp_path / "out").rglob("*.logits"))


def test_an_ir_that_fills_the_memory_ends_in_one_line(small: ModelCard, xml: Path, tmp_path: Path) -> None:
    ops = operations()
    model = openvino.Core().read_model(str(xml))
    (image,) = model.get_parameters()
    readers = list(image.output(0).get_target_inputs())
    value = ops.reduce_max(image.output(0), np.array([0, 1, 2, 3]), True)
    many = ops.broadcast(ops.reshape(value, np.array([1]), False), np.array([GIGABYTES_100]))
    largest = ops.reduce_max(ops.exp(many), np.array([0]), True)
    changed = ops.add(image.output(0), ops.multiply(largest, np.float32(0)))
    for reader in readers:
        reader.replace_source_output(changed.output(0))
    path = tmp_path / "hostile.xml"
    openvino.save_model(model, str(path), compress_to_fp16=False)
    limits = Limits(600, memory_for(10**6, (1, 3, *SIZE)))
    with (
        ChildModel(OpenModel(path, small, (1, 3, *SIZE)), limits) as child,
        pytest.raises(errors.ArtifactError, match=r"hostile\.xml: .*(alloc|memory|SIG)"),
    ):
        list(child.run([np.zeros((*SIZE, 3), np.uint8)]))


def test_the_memory_that_a_model_may_use_grows_with_weights_and_images() -> None:
    small = memory_for(10**6, (1, 3, 64, 64))
    assert 2**30 < small <= memory_for(10**9, (1, 3, 64, 64))
    assert small <= memory_for(10**6, (4, 3, 64, 64))


# Workers


def test_a_worker_answers_and_keeps_its_object() -> None:
    with Worker("a list", list, [[3, 1, 2]]) as worker:
        worker.call(list.sort)
        assert worker.call(list.index, 3) == 2
        assert worker.call(list.__len__) == 3


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        (time.sleep, (600,), "it took more than 2 s"),
        (bytearray, (8 * 2**30,), "it needs more memory than it may use"),
        (int, ("no number",), "invalid literal for int"),
        (errors.count, (), "missing 2 required positional arguments"),
    ],
)
def test_a_worker_says_why_a_call_ended(
    function: Callable[..., object], arguments: tuple[object, ...], says: str
) -> None:
    limits = Limits(seconds=2 if function is time.sleep else None, memory=2 * 2**30)
    with Worker("a failing one", function, arguments, limits=limits) as worker, pytest.raises(WorkerError, match=says):
        worker.call(repr)


def test_a_worker_that_is_killed_is_reported(tmp_path: Path) -> None:
    import os
    import signal

    with Worker("a victim", os.getpid, [], limits=Limits(memory=2**30)) as worker:
        process = int(worker.call(repr))
        os.kill(process, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"its process ended \(signal SIGKILL; it may use 1.1 GB of memory\)"):
            worker.call(repr)


def test_errors_of_this_tool_keep_their_class_and_advice() -> None:
    with Worker("a card", _refuse, ["it is wrong"]) as worker, pytest.raises(errors.CardError) as caught:
        worker.call(repr)
    assert (caught.value.what, caught.value.advice) == ("it is wrong", "Mend it.")


def _refuse(what: str) -> None:
    raise errors.CardError(what, "Mend it.")


def test_what_a_worker_prints_goes_to_the_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", worker_process.__name__), Worker("a printer", print, ["to stdout"]) as worker:
        worker.call(worker_process.flush_output)
    assert "a printer: to stdout" in caplog.text


# As shipped


@pytest.mark.parametrize("kind", ["ONNX", "IR"])
def test_a_model_whose_labels_depend_on_the_tap_is_caught(
    small: ModelCard, onnx_path: Path, xml: Path, tmp_path: Path, kind: str
) -> None:
    """The file as it is gives other labels: another one takes its place, for want of a runtime that is wrong."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*SIZE, 3), np.uint8)]
    planted: OnnxBackend | OpenVinoBackend
    if kind == "IR":
        planted = OpenVinoBackend(xml, small)
        reversed_classes = openvino.Core().read_model(str(xml))
        node = reversed_classes.outputs[0].get_node().input_value(0)
        other = operations().subtract(np.array(len(small.classes) - 1, node.get_element_type().to_dtype()), node)
        reversed_classes.outputs[0].get_node().input(0).replace_source_output(other.output(0))
        planted._as_shipped = openvino.Core().compile_model(reversed_classes, "CPU")
    else:
        planted = OnnxBackend(onnx_path, small, small.input.shape)
        right = planted._as_shipped
        planted._as_shipped = SimpleNamespace(
            run=lambda names, given: [len(small.classes) - 1 - right.run(names, given)[0]]
        )
    drawn = np.zeros((len(small.classes), *SIZE), np.float32)
    answers = answers_of(planted, images, lambda: drawn, tmp_path / "kept")
    comparison = Comparison(kind, "f32")
    check_as_shipped(answers.as_shipped[0].labels, answers.predictions[0].loaded(), "noise", comparison)
    (fault,) = comparison.faults["as shipped"]
    assert fault.startswith("noise: ") and "where the logits are an output too" in fault


def test_labels_may_change_with_the_tap_only_where_logits_are_equal_up_to_rounding() -> None:
    logits = np.zeros((3, 1, 2), np.float32)
    logits[0] = 1
    logits[1, 0] = [1 - 5e-7, 1 - 5e-6]
    tapped = Prediction(np.zeros((1, 2), np.int64), logits)
    for labels, is_right in (([[1, 0]], True), ([[0, 1]], False), ([[0, 0]], True)):
        comparison = Comparison("IR", "f32", allowed=Error(1e-6, 1e-6))
        check_as_shipped(np.array(labels), tapped, "image", comparison)
        assert ("as shipped" not in comparison.faults) == is_right, labels
    check_as_shipped(np.zeros((2, 2), np.int64), tapped, "image", comparison)
    assert "image: labels [2, 2] instead of [1, 2]" in comparison.faults["as shipped"][-1]


def test_an_ir_that_keeps_a_state_or_draws_numbers_is_refused(
    cli: Cli, small: ModelCard, xml: Path, onnx_path: Path, tmp_path: Path
) -> None:
    ops = operations()
    model = openvino.Core().read_model(str(xml))
    (image,) = model.get_parameters()
    readers = list(image.output(0).get_target_inputs())
    noise = ops.random_uniform(np.array([1, 1, 1, 1]), np.float32(0), np.float32(1), "f32", 0, 0)
    changed = ops.add(image.output(0), noise)
    for reader in readers:
        reader.replace_source_output(changed.output(0))
    path = tmp_path / "drawing.xml"
    openvino.save_model(model, str(path), compress_to_fp16=False)

    def draw(found: onnx.ModelProto) -> None:
        put_first(
            found,
            helper.make_node("RandomNormalLike", ["input.1"], ["noise"]),
            helper.make_node("Add", ["input.1", "noise"], ["changed"]),
        )

    checkpoint = ("-o", tmp_path / "out", "--checkpoint", small.folder / small.checkpoint.name)
    for option, drawing, name in (
        ("--ir", path, "RandomUniform"),
        ("--onnx", hostile_onnx(onnx_path, draw, tmp_path), "RandomNormalLike"),
    ):
        result = cli("verify", small.folder, option, drawing, *checkpoint)
        assert result.exit_code == 9, result.output
        assert f"has the operation {name}, so that its answer to an image can change" in result.error


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    """Also where the parent is killed and the worker computes: it reads no request then."""
    code = (
        "import os, sys, time\n"
        "from pspnet_convert.worker_process import Worker\n"
        "worker = Worker('orphan', os.getpid, [])\n"
        "print(worker.call(repr), flush=True)\n"
        "worker._send((time.sleep, (600,)))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    process = int(done.stdout)
    for _ in range(600):
        if not Path(f"/proc/{process}").exists() or "State:\tZ" in Path(f"/proc/{process}/status").read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"process {process} is still there")


def test_a_process_that_cannot_begin_says_why() -> None:
    with (
        Worker("none", repr, [_Unreadable()]) as worker,
        pytest.raises(WorkerError, match=r"exit status 1\): .*no number"),
    ):
        worker.call(repr)


class _Unreadable:
    """Its pickle does not load."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)


def test_one_process_opens_models_in_turn_until_one_fails(
    small: ModelCard, onnx_path: Path, xml: Path, tmp_path: Path
) -> None:
    images = [np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)]
    shape = (1, 3, *SIZE)
    with ChildModel(OpenModel(onnx_path, small, shape), Limits()) as child:
        process = child._worker._process.pid
        (first,) = child.run(images)
        child.open_another(OpenModel(xml, small, shape))
        (second,) = child.run(images)
        assert child._worker._process.pid == process
        assert np.array_equal(first.labels, next(OnnxBackend(onnx_path, small, shape).run(images)).labels)
        assert np.array_equal(second.logits, next(OpenVinoBackend(xml, small, shape).run(images)).logits)
    right, broken = (ModelFile(path.stem, path, "f32") for path in (onnx_path, tmp_path / "broken.onnx"))
    broken.path.write_bytes(b"none")
    drawn: Future[Any] = Future()
    drawn.set_result(np.zeros((len(small.classes), *SIZE), np.float32))
    compared = candidates([right, broken, right], small, shape)
    with AnswersInChildren(compared, images, drawn, tmp_path, Limits(), lambda: None) as asked:
        found = [answer for _, answer in asked.all()]
    assert isinstance(found[1], errors.ArtifactError)
    for answers in (found[0], found[2]):
        assert isinstance(answers, Answers)
        assert np.array_equal(answers.predictions[0].labels, first.labels)
