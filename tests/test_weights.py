"""Which weights of a checkpoint are taken: keys under a prefix, several sets in one file, safetensors."""

from __future__ import annotations

import argparse
import json
import pickle
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import manifests
import numpy as np
import pytest
import torch
from conftest import Cli, Result
from safetensors.torch import save_file

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.pytorch.checkpoint import fit_weights, load_checkpoint
from pspnet_convert.pytorch.network import empty_network
from pspnet_convert.pytorch.read_metadata import read_metadata

Content = dict[str, Any]
State = Mapping[str, torch.Tensor]
BIAS = "decode_head.conv_seg.bias"


@pytest.fixture
def content(small: ModelCard) -> Content:
    return torch.load(small.folder / small.checkpoint.name, weights_only=True)


@pytest.fixture
def state(content: Content) -> Content:
    """The weights of the network alone."""
    return {key: value for key, value in content["state_dict"].items() if not key.startswith("auxiliary_head.")}


@pytest.fixture
def export(cli: Cli, small: ModelCard, tmp_path: Path) -> Callable[..., Result]:
    """Export a checkpoint with this in it, through the command line."""

    def call(content: Any, *options: object) -> Result:
        path = tmp_path / "mine.pth"
        torch.save(content, path)
        own = ("--checkpoint", path, "--allow-unknown-checkpoint", "-o", tmp_path)
        return cli("export-onnx", small.folder, *own, *options)

    return call


@pytest.fixture
def fit(small: ModelCard, tmp_path: Path) -> Callable[..., Any]:
    """The weights of a checkpoint with this in it that fit the small network; and its value of one bias."""

    def call(content: Any, weights: str | None = None, prefix: str | None = None) -> Any:
        path = tmp_path / "mine.pth"
        torch.save(content, path)
        found = load_checkpoint(path, small.choosing(weights, prefix))
        fitted = fit_weights(found, empty_network(small).state_dict())
        return fitted, fitted.state[BIAS].tolist()

    return call


def under(prefix: str, state: State) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def other(state: State, value: float) -> dict[str, torch.Tensor]:
    """Weights that can be told from `state`: one bias is all `value`."""
    return {**state, BIAS: torch.full_like(state[BIAS], value)}


# Keys


@pytest.mark.parametrize("prefix", ["model.", "architecture.", "student.", "a.b.c."])
def test_one_prefix_is_taken_and_reported(export: Callable[..., Result], state: State, prefix: str) -> None:
    done = export({"state_dict": under(prefix, state)})
    assert done.exit_code == 0, done.stderr
    assert f"mine.pth: taking the keys that begin with {prefix}" in done.stderr
    assert "left out" not in done.stderr


@pytest.mark.parametrize("number", [torch.tensor(7.0), torch.tensor([7]), torch.tensor(7, dtype=torch.float16)])
def test_counts_of_batches_may_be_of_any_kind(fit: Callable[..., Any], state: Content, number: torch.Tensor) -> None:
    counts = {key: number for key in state if key.endswith("num_batches_tracked")}
    fitted, _ = fit({"state_dict": {**state, **counts}})
    assert counts and not fitted.left_out and not fitted.warnings


@pytest.mark.parametrize("prefix", ["module.", "module.model."])
def test_module_is_stripped_as_mmengine_does(fit: Callable[..., Any], state: State, prefix: str) -> None:
    fitted, bias = fit({"state_dict": {**under(prefix, state), "module.steps": torch.tensor(1)}})
    assert fitted.prefix == prefix.removeprefix("module.")
    assert bias == state[BIAS].tolist()


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("student.", "teacher."), ("architecture.", "teacher."), ("model.student.", "model.teacher.")],
)
def test_a_student_is_taken_before_its_teacher(
    fit: Callable[..., Any], state: State, student: str, teacher: str
) -> None:
    fitted, bias = fit({**under(teacher, other(state, 7)), **under(student, state)})
    assert (fitted.prefix, bias) == (student, state[BIAS].tolist())
    assert len(fitted.left_out) == len(state)
    assert f"{len(state)} keys are not the network's" in fitted.warnings[0]


@pytest.mark.parametrize(
    ("first", "second"), [("teacher.", "ema."), ("", "ema."), ("a.", "b."), ("", "module."), ("student.", "x.teacher.")]
)
def test_two_other_prefixes_are_an_error_and_prefix_decides(
    export: Callable[..., Result], fit: Callable[..., Any], state: State, first: str, second: str
) -> None:
    content = {**under(first, state), **under(second, other(state, 7))}
    result = export(content)
    assert result.exit_code == 6
    assert "has the network's keys several times, under the prefixes" in result.error
    assert repr(first) in result.error and repr(second) in result.error and "--prefix PREFIX" in result.error
    assert fit(content, prefix=first)[1] == state[BIAS].tolist()
    assert fit(content, prefix=second)[1] == [7] * 5


def test_keys_of_no_use_are_left_out_with_one_warning(
    export: Callable[..., Result], content: Content, tmp_path: Path
) -> None:
    content["state_dict"].update({"extra.weight": torch.zeros(1), "extra.text": "text", "extra.code": deque([1])})
    done = export(content)
    assert done.exit_code == 0, done.stderr
    warning = "mine.pth: 3 keys are not the network's and are left out; the first is extra.weight"
    assert done.stderr.count("left out") == 1 and warning in done.stderr
    (manifest,) = tmp_path.rglob("manifest.json")
    found = json.loads(manifest.read_text())["stages"]["export-onnx"]["result"]["checkpoint"]
    assert found["warnings"] == [warning]
    assert found["dropped_keys"][-3:] == ["extra.weight", "extra.text", "extra.code"]


@pytest.mark.parametrize(
    ("options", "prefix", "missing"),
    [((), "student.", BIAS), (("--prefix", "x"), "x.", "backbone.stem.0.weight, ")],
)
def test_a_missing_key_is_an_error_under_the_best_prefix(
    export: Callable[..., Result], state: Content, options: tuple[str, ...], prefix: str, missing: str
) -> None:
    del state[BIAS]
    result = export(under("student.", state), *options)
    assert result.exit_code == 6
    assert f"not of this card's network under the prefix {prefix!r}: missing: {missing}" in result.error
    assert "`pspnet-convert download` gets the right one" in result.error


@pytest.mark.parametrize("asked", ["module.model.", "model.", "module"])
def test_a_prefix_may_be_written_as_it_is_in_the_file(fit: Callable[..., Any], state: State, asked: str) -> None:
    inner = "" if asked == "module" else "model."
    fitted, bias = fit({"state_dict": under(f"module.{inner}", state)}, prefix=asked if inner else "module.")
    assert (fitted.prefix, bias) == (inner, state[BIAS].tolist())


def test_module_of_a_prefix_counts_where_it_is_in_the_keys(fit: Callable[..., Any], state: State) -> None:
    content = {"state_dict": {**state, **under("module.", other(state, 7))}}  # not removed, as keys would collide
    assert fit(content, prefix="module.")[1] == [7] * 5


def test_a_prefix_that_is_none_is_refused(export: Callable[..., Result], state: State) -> None:
    result = export(state, "--prefix", "a b")
    assert result.exit_code == 2
    assert "'a b' is not a prefix of keys" in result.stderr


# Sets of weights


@pytest.mark.parametrize("name", ["state_dict", "model", "model_state_dict", "net", "ema_state_dict", "my weights"])
def test_a_set_of_weights_under_a_usual_name_or_the_only_one_is_taken(
    fit: Callable[..., Any], state: State, name: str
) -> None:
    assert (
        fit({"epoch": 7, name: state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}})[1] == state[BIAS].tolist()
    )


def test_the_top_level_may_be_the_state_dict(fit: Callable[..., Any], state: State) -> None:
    assert fit(state)[1] == fit(OrderedDict(state))[1] == state[BIAS].tolist()


def test_state_dict_is_taken_before_others_and_weights_chooses(
    cli: Cli, export: Callable[..., Result], small: ModelCard, state: State, tmp_path: Path
) -> None:
    """As mmengine's EMAHook saves it: the averaged model has `module.` and the number of steps."""
    ema = {"steps": torch.tensor(9), **under("module.", other(state, 7))}
    content = {"state_dict": state, "ema_state_dict": ema, "meta": {}}
    folder = tmp_path / "public" / small.name
    done = export(content)
    assert done.exit_code == 0, done.stderr
    plain = manifests.read(folder)["stages"]["export-onnx"]
    assert "weights" not in plain["inputs"]["checkpoint"]
    assert plain["result"]["checkpoint"]["weights"] == "state_dict"

    done = export(content, "--weights", "ema_state_dict")
    assert done.exit_code == 0, done.stderr
    assert "1 key is not the network's and is left out: steps" in done.stderr
    chosen = manifests.read(folder)["stages"]["export-onnx"]
    assert chosen["inputs"]["checkpoint"]["weights"] == chosen["result"]["checkpoint"]["weights"] == "ema_state_dict"
    assert chosen["outputs"][0]["sha256"] != plain["outputs"][0]["sha256"]
    again = export(content, "--weights", "ema_state_dict")
    assert "export-onnx: unchanged" in again.stderr
    rebuilt = cli("rebuild", "--check", folder / "manifest.json", "--checkpoint", tmp_path / "mine.pth")
    assert rebuilt.exit_code == 0, rebuilt.stderr


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["a", "b"], (), "has several sets of weights: it has a, b. Choose with --weights NAME"),
        (["a", "b"], ("--weights", "c"), "has no weights named c: it has a, b. Choose with --weights NAME"),
        (["state_dict"], ("--weights", "c"), "has no weights named c: it has state_dict"),
        ([], ("--weights", "c"), "has no weights named c: it has no other"),
        ([], (), "holds no state dict of tensors"),
    ],
)
def test_where_there_is_no_such_set_the_error_lists_them(
    export: Callable[..., Result], state: State, names: list[str], options: tuple[str, ...], words: str
) -> None:
    result = export(dict.fromkeys(names, state), *options)
    assert result.exit_code == 6
    assert words in result.error


@pytest.mark.parametrize("name", ["state_dict", "model", "weights"])
def test_a_stray_tensor_next_to_a_set_of_weights_is_no_set(fit: Callable[..., Any], state: State, name: str) -> None:
    fitted, bias = fit({name: state, "rng_state": torch.get_rng_state()})
    assert bias == state[BIAS].tolist() and fitted.warnings == ()


def test_the_top_level_is_taken_where_no_set_has_more_tensors(fit: Callable[..., Any], state: State) -> None:
    for more in ({"queue": {"a": torch.zeros(1)}}, {"ema": other(state, 7)}):
        assert fit({**state, **more})[1] == state[BIAS].tolist()


def test_the_other_sets_are_named_where_the_weights_do_not_fit(export: Callable[..., Result], state: State) -> None:
    content = {"state_dict": {"x": torch.zeros(1)}, "ema": state, "\x1b[31m": state}
    result = export(content)
    assert result.exit_code == 6
    assert "The file also has the weights ema, \\x1b[31m: choose with --weights NAME." in result.error
    assert "--weights" not in export({"state_dict": {"x": torch.zeros(1)}}).error


def test_an_empty_dictionary_needs_no_code(export: Callable[..., Result]) -> None:
    for content in (OrderedDict(), {"state_dict": OrderedDict()}, {"model": {}}, {"a": 1}, [1]):
        assert "holds no state dict of tensors" in export(content).error


def test_the_choice_is_the_apis_too(small: ModelCard, state: State, tmp_path: Path) -> None:
    import pspnet_convert as pc

    path = tmp_path / "mine.pth"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "ema": under("net.", state)}, path)
    options = {"checkpoint": path, "allow_unknown_checkpoint": True, "weights": "ema", "prefix": "net"}
    done = pc.export_onnx(small, output_dir=tmp_path, **options)
    found = done.stages["export-onnx"].record.inputs.checkpoint
    assert (found.weights, found.prefix) == ("ema", "net.")


@pytest.mark.slow
def test_the_choice_holds_for_every_stage(cli: Cli, small: ModelCard, state: State, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": other(state, 7), "ema": under("net.", state)}, path)
    own = (small.folder, "-o", tmp_path, "--checkpoint", path, "--allow-unknown-checkpoint", "--weights", "ema")
    done = cli("run", *own)
    assert done.exit_code == 0, done.stderr
    assert "verify: unchanged" in cli("run", *own).stderr
    assert cli("verify", *own[:-2]).exit_code == 9  # the IR is of other weights than state_dict's
    assert cli("benchmark", *own, "--rounds", 1).exit_code == 0


# safetensors


@pytest.mark.parametrize("half", [False, True])
def test_a_safetensors_file_is_a_checkpoint(
    cli: Cli, small: ModelCard, state: State, tmp_path: Path, half: bool
) -> None:
    path = tmp_path / "mine.safetensors"
    kept = {key: value.half() if half and value.is_floating_point() else value for key, value in state.items()}
    meta = {"classes": json.dumps(small.class_names), "palette": json.dumps(small.palette), "mmseg_version": "1.2.2"}
    save_file({key: value.contiguous() for key, value in under("model.", kept).items()}, path, metadata=meta)
    done = cli(
        "export-onnx", small.folder, "-o", tmp_path, "--checkpoint", path, "--allow-unknown-checkpoint"
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "taking the keys that begin with model." in done.stderr and "differ" not in done.stderr
    metadata = read_metadata(path)
    assert (metadata.classes, metadata.mmseg_version) == (small.class_names, "1.2.2")
    assert metadata.palette == [list(colour) for colour in small.palette]


def test_metadata_of_safetensors_may_be_anything(small: ModelCard, state: State, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    names = {"dataset_meta": json.dumps({"classes": ["a", "b"]}), "classes": "[" * 100_000, "palette": "[1, 2]"}
    save_file({"a": torch.zeros(1)}, path, metadata={**names, "config": "x = 1"})
    metadata = read_metadata(path)
    assert (metadata.classes, metadata.palette, metadata.config) == (["a", "b"], None, "x = 1")


def test_a_damaged_safetensors_file_is_refused(cli: Cli, small: ModelCard, state: State, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    data = path.read_bytes()
    for cut in (20, 2000, len(data) - 1):
        path.write_bytes(data[:cut])
        done = cli(
            "export-onnx", small.folder, "-o", tmp_path, "--checkpoint", path, "--allow-unknown-checkpoint"
        )  # fmt: skip
        assert done.exit_code == 6
        assert f"{path}: " in done.error
    save_file({**state, BIAS: torch.zeros(5).to(torch.float8_e4m3fn)}, path)
    done = cli("export-onnx", small.folder, "-o", tmp_path, "--checkpoint", path, "--allow-unknown-checkpoint")
    assert f"{BIAS} is no plain tensor, but a tensor of F8_E4M3" in done.error


# Metadata that are no plain data


class Users:
    """A class of the user's, with attributes."""

    def __init__(self) -> None:
        self.classes = ["a"]

    def method(self) -> None: ...


def harmless() -> Content:
    """What training scripts put next to weights."""
    from mmengine.config import ConfigDict
    from mmengine.logging import MessageHub

    hub = MessageHub("test-weights")
    hub.update_scalar("train/loss", 1.0)
    return {
        "args": argparse.Namespace(lr=0.1, out=Path("work_dirs")),
        "config": ConfigDict(model=ConfigDict(type="EncoderDecoder", sizes=(1, 2))),
        "best": np.float64(0.7),
        "scores": {np.int64(3): np.arange(4.0), "by class": defaultdict(list, a=[1])},
        "user": [Users(), Users, Users.method, len],
        "sets": {1, (2, 3), frozenset([4])},
        "queue": deque([1, 2], maxlen=5),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "rng": np.random.default_rng(0),
        "generator": torch.get_rng_state(),
        "slice": slice(1, 2),
        "complex": 1j,
        "bytes": b"abc",
        "bytearray": bytearray(b"abc"),
        "odd keys": {(1, (2, 3)): 4, None: 5, b"a": 6, frozenset([7]): 8},
        "message_hub": hub.state_dict(),
        "sparse": torch.ones(3).to_sparse(),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("in_zip", [False, True], ids=["legacy", "zip"])
def test_what_is_no_tensor_is_no_reason_to_refuse_a_file(
    small: ModelCard, content: Content, tmp_path: Path, in_zip: bool, protocol: int
) -> None:
    path = tmp_path / "users.pth"
    for more in (harmless(), {"meta": {**content["meta"], **harmless()}}):
        torch.save(
            {**content, **more}, path, _use_new_zipfile_serialization=in_zip, pickle_protocol=protocol
        )  # fmt: skip
        checkpoint = load_checkpoint(path, small)
        fitted = fit_weights(checkpoint, empty_network(small).state_dict())
        assert torch.equal(fitted.state[BIAS], content["state_dict"][BIAS])
        assert checkpoint.metadata.classes == small.class_names


@pytest.mark.parametrize("kind", ["mmcv", "mmengine", "defaultdict"])
def test_metadata_in_a_dictionary_of_another_class_are_read(
    small: ModelCard, state: State, tmp_path: Path, kind: str
) -> None:
    from addict import Dict
    from mmengine.config import ConfigDict

    if kind == "mmcv":  # mmcv 1.x has it there, as a class of addict's
        made = type("ConfigDict", (Dict,), {"__module__": "mmcv.utils.config"})
        meta: Any = made(CLASSES=tuple(small.class_names), mmseg_version="0.30.0")
    elif kind == "mmengine":
        meta = ConfigDict(dataset_meta=ConfigDict(classes=small.class_names), mmseg_version="1.2.2")
    else:
        meta = defaultdict(list, CLASSES=small.class_names, mmseg_version="1.0.0")
    path = tmp_path / "mine.pth"
    with pretended(type(meta)):
        torch.save({"meta": meta, "state_dict": state}, path)
    assert read_metadata(path).classes == small.class_names


class pretended:
    """The module of a class exists in the block, as pickling needs it."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.missing = kind.__module__ == "mmcv.utils.config"

    def __enter__(self) -> None:
        import sys

        if self.missing:
            module = ModuleType(self.kind.__module__)
            module.ConfigDict = self.kind  # type: ignore[attr-defined]
            sys.modules[self.kind.__module__] = module

    def __exit__(self, *_: Any) -> None:
        import sys

        if self.missing:
            del sys.modules[self.kind.__module__]


def test_a_whole_model_is_refused_with_advice(export: Callable[..., Result]) -> None:
    for content in (torch.nn.Linear(2, 2), {"model": torch.nn.Linear(2, 2)}, {"state_dict": torch.nn.Linear(2, 2)}):
        result = export(content)
        assert result.exit_code == 6
        assert (
            "torch.nn.modules.linear.Linear, which only code could read. Save the model's state_dict()" in result.error
        )


def test_a_state_dict_of_parameters_and_of_tensors_with_attributes(fit: Callable[..., Any], state: Content) -> None:
    bias = state[BIAS]
    marked = bias.clone()
    marked.note = "text"
    with_state = torch.nn.Parameter(bias.clone())
    with_state.note = "text"
    for one in (torch.nn.Parameter(bias), marked, with_state):
        assert fit({**state, BIAS: one})[1] == bias.tolist()


def test_a_pickle_of_protocol_5_with_a_call_is_not_run(small: ModelCard, content: Content, tmp_path: Path) -> None:
    canary = tmp_path / "was-run"

    class Evil:
        def __reduce_ex__(self, protocol: Any) -> Any:
            return Path.touch, (canary,)

    path = tmp_path / "evil.pth"
    torch.save({**content, "evil": Evil()}, path, pickle_protocol=5)
    load_checkpoint(path, small)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Evil()))  # noqa: S301 -- ours: shows that it would be run
    assert canary.exists()
