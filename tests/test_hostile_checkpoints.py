"""A checkpoint made to do harm: none of its code runs, memory stays bounded, and the error is one line."""

from __future__ import annotations

import _codecs
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, Result
from hypothesis import given
from hypothesis import strategies as st

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import CheckpointError
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import build_network

Content = dict[str, Any]
FORMATS = pytest.mark.parametrize("in_zip", [False, True], ids=["legacy", "zip"])


REBUILT = "an object made by torch._utils._rebuild"


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class DictWith(dict[str, Any]):
    """Pickled as an OrderedDict that has `attribute` as an attribute of its own: the class OrderedDict."""

    attribute = ""

    def __reduce__(self) -> Any:
        return OrderedDict, (), {self.attribute: OrderedDict}, None, iter(self.items())


@pytest.fixture
def content(small: ModelCard) -> Content:
    return torch.load(small.folder / small.checkpoint.name, weights_only=True)


@pytest.fixture
def export(cli: Cli, small: ModelCard, tmp_path: Path) -> Callable[..., Result]:
    """Export a checkpoint with this in it, through the command line."""

    def call(content: Any, *, in_zip: bool = True) -> Result:
        path = tmp_path / "hostile.pth"
        torch.save(content, path, _use_new_zipfile_serialization=in_zip)
        return cli("export-onnx", small.folder, "-o", tmp_path, "--checkpoint", path, "--allow-unknown-checkpoint")

    return call


# What a pickle may ask for


@FORMATS
@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch {}", f"{os.name}.system"),
        (eval, "open('{}', 'w')", "builtins.eval"),
        (exec, "open('{}', 'w')", "builtins.exec"),
        (subprocess.Popen, "touch {}", "commands.Popen"),  # its name in pickles of protocol 2
        (Path.touch, "{}", "builtins.getattr"),
        (torch.load, "{}", "torch.serialization.load"),
        (torch._utils._import_dotted_name, "os.system", "torch._utils._import_dotted_name"),
    ],
)
def test_code_is_never_run_and_refused_only_where_it_makes_a_tensor(
    export: Callable[..., Result],
    content: Content,
    tmp_path: Path,
    in_zip: bool,
    function: Any,
    argument: str,
    name: str,
) -> None:
    canary = tmp_path / "was-run"
    code = Calls(function, argument.format(canary))
    meta = {"CLASSES": code, "config": code, "dataset_meta": code, "a": [code]}
    done = export({**content, "message_hub": code, "meta": meta, "optimizer": {code: code}}, in_zip=in_zip)
    assert done.exit_code == 0, done.stderr
    assert export({**content, "meta": code}, in_zip=in_zip).exit_code == 0
    bias = "decode_head.conv_seg.bias"
    result = export({"state_dict": {**content["state_dict"], bias: code}}, in_zip=in_zip)
    assert result.exit_code == 6
    assert f"{bias} is no plain tensor, but an object made by {name}" in result.error
    result = export({"state_dict": code}, in_zip=in_zip)
    assert result.exit_code == 6
    assert f"its state_dict is an object made by {name}, which only code could read" in result.error
    assert f"is an object made by {name}, which only code could read" in export(code, in_zip=in_zip).error
    assert not canary.exists()


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.ones(3).to_sparse(), f"{REBUILT}_sparse_tensor"),
        (
            torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            f"{REBUILT}_qtensor",
        ),
        (torch.empty(10**12, device="meta"), f"{REBUILT}_meta_tensor_no_storage"),
        (torch.ones(3, dtype=torch.complex64), "a tensor of ComplexFloatStorage"),
        (torch.ones(3, dtype=torch.uint16), f"{REBUILT}_tensor_v3"),
        (
            torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            f"{REBUILT}_nested_tensor",
        ),
        (Calls(bytearray, 10**12), "an object made by builtins.bytearray"),
        (Counter("text"), "an object made by collections.Counter"),
    ],
)
@FORMATS
def test_what_is_no_plain_tensor_is_refused_by_name(
    export: Callable[..., Result], content: Content, in_zip: bool, tensor: Any, what: str
) -> None:
    content["state_dict"]["decode_head.conv_seg.weight"] = tensor
    result = export(content, in_zip=in_zip)
    assert result.exit_code == 6
    assert f"decode_head.conv_seg.weight is no plain tensor, but {what}" in result.error


def test_half_and_bfloat_and_parameters_are_plain_tensors(small: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.uint8, torch.bool]
    tensors = {str(kind): torch.ones(3, dtype=kind) for kind in kinds}
    torch.save({**tensors, "parameter": torch.nn.Parameter(torch.ones(2))}, path)
    checkpoint = load_checkpoint(path, small)
    assert {str(checkpoint.load(str(kind)).dtype) for kind in kinds} == set(map(str, kinds))
    assert checkpoint.load("parameter").tolist() == [1, 1]


# What it may claim about its tensors


@pytest.mark.parametrize("shape", [(10**8,), (2**31, 2**20)])
@FORMATS
def test_one_number_is_not_taken_for_many(
    export: Callable[..., Result], content: Content, in_zip: bool, shape: tuple[int, ...]
) -> None:
    one = torch.zeros(1)
    content["state_dict"]["decode_head.conv_seg.bias"] = one.expand(shape)
    result = export(content, in_zip=in_zip)
    assert result.exit_code == 6
    assert f"of another shape: decode_head.conv_seg.bias {list(shape)} instead of [5]" in result.error


def test_a_storage_that_all_share_is_not_copied_for_each(export: Callable[..., Result], content: Content) -> None:
    state, size = content["state_dict"], 0
    shared = torch.zeros(max(tensor.numel() for tensor in state.values()))
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = shared[: tensor.numel()].view(tensor.shape)
            size += 4 * tensor.numel()
    result = export(content)
    assert result.exit_code == 6
    claimed = re.search(r"claims (\d+) bytes of tensors, but has (\d+) bytes", result.error)
    assert claimed is not None
    assert int(claimed[1]) <= size + 8 * len(state) and int(claimed[2]) < size / 2


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((10**9,), (1,), 0),
        ((5,), (10**9,), 0),
        ((5,), (1,), 10**12),
        ((5,), (1,), -4),
        ((-5,), (1,), 0),
        ((5,), (-1,), 0),
        ((1,) * 100, (1,) * 100, 0),
        ((0, 2**64), (1, 1), 0),
    ],
)
@FORMATS
def test_a_tensor_outside_its_storage_is_refused(
    export: Callable[..., Result], content: Content, in_zip: bool, size: Any, stride: Any, offset: int
) -> None:
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(5).untyped_storage(), dtype=torch.float32, _internal=True
    )
    bias = Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    content["state_dict"]["decode_head.conv_seg.bias"] = bias
    result = export(content, in_zip=in_zip)
    assert result.exit_code == 6
    assert "a damaged or truncated one" in result.error


class View:
    """Numbers of a storage from number `start`, as torch before 0.4 saved them."""

    def __init__(self, start: Any, count: Any) -> None:
        self.view = ("0v", start, count)


class PicklerOfViews(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", 6, value.view) if isinstance(value, View) else None


@pytest.mark.parametrize(
    ("start", "count", "numbers"),
    [(0, 2, [1, 2]), (3, 2, [4, 5]), (5, 2, None), (-1, 5, None), (0, -1, None), ("0", 2, None)],
)
def test_a_view_is_inside_its_storage(
    small: ModelCard, tmp_path: Path, start: Any, count: Any, numbers: list[float] | None
) -> None:
    tensor = Calls(torch._utils._rebuild_tensor_v2, View(start, count), 0, (2,), (1,), False, OrderedDict())
    pickled = BytesIO()
    PicklerOfViews(pickled, 2).dump({"a": tensor})
    for shift in range(4):  # a storage that is aligned is not copied, and has bytes of the file before it
        storage = {"data/0": np.arange(1, 7, dtype=np.float32).tobytes()}
        path = in_zip(pickled.getvalue() + b" " * shift, tmp_path / "old.pth", **storage)
        if numbers is None:
            with pytest.raises(CheckpointError, match="a damaged or truncated one"):
                load_checkpoint(path, small).load("a")
        else:
            assert load_checkpoint(path, small).load("a").tolist() == numbers


@pytest.mark.parametrize("order", [b"middle", b"little\n", b""])
def test_an_unknown_order_of_bytes_is_refused(cli: Cli, small: ModelCard, tmp_path: Path, order: bytes) -> None:
    path = in_zip(b"\x80\x02}.", tmp_path / "odd.pth", byteorder=order)
    given = ("--checkpoint", path, "--allow-unknown-checkpoint")
    result = cli("export-onnx", small.folder, "-o", tmp_path, *given)
    assert result.exit_code == 6
    assert f"{path}: its byteorder is {order!r}, neither little nor big. Give the whole file" in result.error


def test_overlapping_weights_become_their_values(small: ModelCard, content: Content, tmp_path: Path) -> None:
    content["state_dict"]["decode_head.conv_seg.bias"] = torch.ones(1).expand(5)
    path = tmp_path / "overlapping.pth"
    torch.save(content, path)
    bias = build_network(small, load_checkpoint(path, small)).decode_head.conv_seg.bias
    assert bias.is_contiguous()
    assert bias.tolist() == [1.0] * 5


def test_a_negative_view_is_refused(export: Callable[..., Result], content: Content) -> None:
    content["state_dict"]["decode_head.conv_seg.bias"] = torch.zeros(5, dtype=torch.complex64).conj().imag
    assert "conv_seg.bias is no plain tensor, but a negative or conjugate view" in export(content).error


@pytest.mark.parametrize("attribute", ["get", "items", "keys", "values", "__class__"])
def test_a_dict_does_not_bring_its_own_methods(
    small: ModelCard, content: Content, tmp_path: Path, attribute: str
) -> None:
    hostile = {name: DictWith(content[name]) for name in ("state_dict", "meta")}
    for each in hostile.values():
        each.attribute = attribute
    path = tmp_path / "methods.pth"
    torch.save(hostile, path)
    checkpoint = load_checkpoint(path, small)
    assert set(checkpoint.weights.values) == set(content["state_dict"])
    assert checkpoint.metadata.classes == small.class_names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\x1b[2J", r"'a\x1b[2J'"),
        ("a\nall is well", r"'a\nall is well'"),
        ("", "''"),
        ("\ud800", r"'\ud800'"),
        ("a" * 501, "'" + "a" * 500 + "'"),
        ("a" * 10_001, "a str"),
        (7, "7"),
        (2**100, "an int"),
        (("a",), "a tuple"),
        (None, "None"),
    ],
)
def test_a_tensor_without_a_name_is_left_out(
    export: Callable[..., Result], content: Content, tmp_path: Path, name: Any, words: str
) -> None:
    content["state_dict"][name] = torch.zeros(1)
    result = export(content)
    assert result.exit_code == 0, result.stderr
    assert f"hostile.pth: 1 key is not the network's and is left out: {words}\n" in result.stderr
    assert result.stderr.replace("\n", "").isprintable()
    (manifest,) = tmp_path.rglob("manifest.json")
    found = json.loads(manifest.read_text(encoding="utf-8"))["stages"]["export-onnx"]["result"]["checkpoint"]
    assert found["dropped_keys"][-1] == words


@pytest.mark.parametrize(
    ("name", "shown"), [("\ud800", r"\ud800"), ("\x1b[31mred", r"\x1b[31mred"), ("", "''"), ("a" * 500, "a" * 100)]
)
def test_the_name_of_the_only_set_of_weights_is_shown_in_printable_letters(
    export: Callable[..., Result], content: Content, tmp_path: Path, name: str, shown: str
) -> None:
    result = export({name: content["state_dict"]})
    assert result.exit_code == 0, result.stderr
    assert f"hostile.pth: taking its weights {shown}\n" in result.stderr
    assert result.stderr.replace("\n", "").isprintable()
    (manifest,) = tmp_path.rglob("manifest.json")
    assert json.loads(manifest.read_text())["stages"]["export-onnx"]["result"]["checkpoint"]["weights"] == shown


# What its metadata may be


def bomb(depth: int = 60) -> Any:
    """A list of 2 ** depth texts in a few hundred bytes."""
    value: Any = ["ha"]
    for _ in range(depth):
        value = [value, value]
    return value


def endless() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    "meta",
    [
        7,
        "text",
        [1, 2],
        {},
        {"CLASSES": bomb()},
        {"CLASSES": [bomb()] * 5},
        {"CLASSES": endless()},
        {"CLASSES": 7, "PALETTE": 7, "mmseg_version": 7, "config": 7},
        {"CLASSES": {"a": 1}, "PALETTE": bomb()},
        {"PALETTE": [bomb()] * 5},
        {"PALETTE": [[1, 2, bomb()]] * 5},
        {"PALETTE": [endless()] * 5},
        {"PALETTE": [[1.5, 2, 3]] * 5},
        {"config": "\ud800 \x1b[2J", "mmseg_version": "\udfff"},
        {"config": "a" * (2**20 + 1)},
        {"dataset_meta": endless()},
        {"dataset_meta": {"classes": bomb(), "palette": bomb()}},
        {7: 8, None: torch.zeros(3)},
    ],
    ids=range(18),
)
def test_strange_metadata_is_no_metadata(small: ModelCard, content: Content, tmp_path: Path, meta: Any) -> None:
    path = tmp_path / "strange.pth"
    torch.save({"state_dict": content["state_dict"], "meta": meta}, path)
    metadata = load_checkpoint(path, small).metadata
    assert metadata.classes is None
    assert metadata.palette is None
    json.dumps([metadata.config, metadata.mmseg_version], ensure_ascii=False).encode("utf-8")


def test_metadata_that_utf8_cannot_encode_reaches_the_manifest(
    export: Callable[..., Result], content: Content, tmp_path: Path
) -> None:
    content["meta"]["config"] = "model = '\ud800'"
    assert export(content).exit_code == 0
    (manifest,) = tmp_path.rglob("manifest.json")
    stage = json.loads(manifest.read_text(encoding="utf-8"))["stages"]["export-onnx"]
    assert stage["result"]["checkpoint"]["metadata"]["config"] == "model = '?'"


# How much memory it may take


def in_zip(pickled: bytes, path: Path, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little", **others}.items():
            archive.writestr(f"archive/{name}", data)
    return path


def saved(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def encoded_again_and_again() -> Any:
    text: Any = "a" * 1000
    text = Calls(_codecs.encode, text, "latin1")
    for _ in range(60):
        text = Calls(_codecs.encode, text, "hex")
    return text


def copies_of_a_large_dict() -> bytes:
    """A hundred thousand entries, given to each of a hundred thousand OrderedDicts."""
    entries = b"".join(b"J" + struct.pack("<i", number) + b"N" for number in range(100_000))
    first = b"ccollections\nOrderedDict\nq\x01)Rh\x00b"
    return b"\x80\x02(}q\x00(" + entries + b"u" + first + b"h\x01)Rh\x00b" * 100_000 + b"t."


def one_large_dict_under_many_names() -> bytes:
    numbers = b"".join(b"J" + struct.pack("<i", number) + b"N" for number in range(100_000))
    names = b"".join(b"X\6\0\0\0%06dh\0" % number for number in range(100_000))
    return b"\x80\x02(}q\0(" + numbers + b"u}(" + names + b"ut."


def one_large_tuple_as_arguments() -> bytes:
    """Four hundred objects, each made with the same forty thousand arguments."""
    return b"\x80\x04(" + b"N" * 40_000 + b"tq\0(" + b"ca\nb\nh\0}\x92" * 40_000 + b"t."


def one_large_key() -> bytes:
    """A tuple of a hundred thousand numbers, or a text of a million letters that is there twice, as a key."""
    number = b"\x8a\xff" + b"\x7f" * 255
    numbers = b"(" + b"K\1" * 100_000 + b"tq\0"
    texts = b"".join(b"X" + struct.pack("<i", 10**6) + b"a" * 10**6 + b"q" + bytes([place]) for place in (1, 2))
    large = b"(" + number * 16 + b"tq\3"
    keys = b"h\0Nh\1Nh\2Nh\3N" * 50_000
    return b"\x80\x02" + numbers + b"0" + texts + b"00" + large + b"0}(" + keys + b"u."


def numbers_of_one_hash() -> bytes:
    keys = b"".join(b"\x8a\x0b" + (number * (2**61 - 1)).to_bytes(11, "little") + b"N" for number in range(1, 200_000))
    return b"\x80\x02}(" + keys + b"u."


def classes_that_grow() -> Content:
    """Each name becomes four times as long when it is made printable."""
    meta = {"CLASSES": ["\x1b" * 500] * 400_000, "PALETTE": [[1, 2, 3]] * 400_000}
    return {"state_dict": {"a": torch.zeros(1)}, "meta": meta}


MEASURE = """
import resource, sys, time
from pathlib import Path
import torch
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.errors import CheckpointError
from pspnet_convert.pytorch.network import build_network
card = find_card("demo")
load_checkpoint(card.folder / "demo.pth", card)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    started = time.monotonic()
    try:
        checkpoint = load_checkpoint(Path(name), card)
        for key in checkpoint.weights.values:
            checkpoint.load(key)
        outcome = "loaded"
    except CheckpointError as error:
        outcome = "refused"
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000
    print(outcome, megabytes, round(time.monotonic() - started))
"""


def test_memory_and_time_are_bounded(tmp_path: Path) -> None:
    huge = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(5).untyped_storage(), dtype=torch.float32, _internal=True
    )
    files = [
        saved({"state_dict": {"a": encoded_again_and_again()}}, tmp_path / "encoded.pth"),
        in_zip(copies_of_a_large_dict(), tmp_path / "copies.pth"),
        in_zip(b"\x80\x02" + b"}" * 5_000_000 + b".", tmp_path / "flood.pth"),
        in_zip(b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".", tmp_path / "deep.pth"),
        in_zip(b"\x80\x02ccollections\nOrderedDict\n" + b")R" * 400_000 + b".", tmp_path / "calls.pth"),
        in_zip(one_large_dict_under_many_names(), tmp_path / "many.pth"),
        saved(
            {"a": Calls(torch._utils._rebuild_tensor_v2, huge, 0, (2**34,), (1,), False, OrderedDict())},
            tmp_path / "grown.pth",
            _use_new_zipfile_serialization=False,
        ),
        in_zip(one_large_tuple_as_arguments(), tmp_path / "arguments.pth"),
        in_zip(one_large_key(), tmp_path / "key.pth"),
        in_zip(numbers_of_one_hash(), tmp_path / "hash.pth"),
        saved(classes_that_grow(), tmp_path / "classes.pth"),
    ]
    done = subprocess.run([sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    outcomes, megabytes, seconds = zip(*(line.split() for line in done.stdout.splitlines()))
    assert outcomes == ("refused",) * (len(files) - 1) + ("loaded",)
    assert max(map(int, megabytes)) < 400
    assert max(map(int, seconds)) < 60


# Damage


@pytest.fixture(scope="module")
def both(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """The small checkpoint's bytes, by whether it is a zip."""
    legacy = small.folder / small.checkpoint.name
    zipped = tmp_path_factory.mktemp("both") / "zip.pth"
    torch.save(torch.load(legacy, weights_only=True), zipped)
    return {False: legacy.read_bytes(), True: zipped.read_bytes()}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "damaged.pth"


@given(is_zip=st.booleans(), share=st.floats(0, 1, exclude_max=True), near=st.sampled_from([200, 20_000, None]))
def test_a_file_cut_anywhere_is_refused(
    small: ModelCard, both: dict[bool, bytes], file: Path, is_zip: bool, share: float, near: int | None
) -> None:
    data = both[is_zip]
    file.write_bytes(data[: int(share * (near or len(data)))])
    with pytest.raises(CheckpointError):
        load_checkpoint(file, small)


def test_a_zip_in_a_legacy_file_and_two_pickles_in_a_zip(
    small: ModelCard, both: dict[bool, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(both[False] + both[True])
    assert load_checkpoint(
        path, small
    ).weights.values  # its first bytes are those of a legacy file, and it is read as one
    path.write_bytes(both[True])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"\x80\x02N.")
    with pytest.raises(CheckpointError, match=r"not one that torch\.save wrote"):
        load_checkpoint(path, small)
