"""A checkpoint is read only as tensors, and must fit this network. Refusals are tested through the CLI."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.pytorch.checkpoint import AUXILIARY_HEAD, fit_weights, load_checkpoint
from pspnet_convert.pytorch.network import build_network, empty_network

Content = dict[str, Any]


@pytest.fixture
def content(small: ModelCard) -> Content:
    return torch.load(small.folder / small.checkpoint.name, weights_only=True)


@pytest.fixture
def export(cli: Cli, small: ModelCard, tmp_path: Path) -> Callable[[Path], Any]:
    """Export a checkpoint of the test's own; nothing may be left under a final name if that fails."""

    def call(path: Path) -> Any:
        result = cli(
            "export-onnx", small.folder, "-o", tmp_path, "--checkpoint", path, "--allow-unknown-checkpoint"
        )  # fmt: skip
        made = sorted(file.name for file in (tmp_path / "public").rglob("*") if file.is_file())
        assert made == [".lock"] or result.exit_code == 0
        return result

    return call


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("how", ["plain pickle", "torch.save legacy", "torch.save zip"])
def test_a_pickle_that_calls_os_system_is_refused_by_name_and_not_run(
    export: Callable[[Path], Any], tmp_path: Path, how: str
) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "was-run"
    evil = {"state_dict": _Evil(marker)}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=how.endswith("zip"))
    result = export(path)
    assert result.exit_code == 6
    words = "torch.save did not write" if how == "plain pickle" else f"object made by {os.name}.system, which only code"
    assert words in result.error
    assert not marker.exists()


def test_getattr_in_a_log_buffer_is_not_called(export: Callable[[Path], Any], tmp_path: Path) -> None:
    class Sneaky:
        def __reduce__(self) -> Any:
            return getattr, (OrderedDict, "fromkeys")

    path = tmp_path / "sneaky.pth"
    torch.save({"message_hub": Sneaky(), "state_dict": {}}, path)
    assert "holds no state dict" in export(path).error


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is an empty file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a text file"),
        (bytes(range(1, 256)), "a file of an unknown format"),
        (pickle.dumps([1, 2, 3], protocol=2), "no checkpoint, or a damaged or truncated one"),
        (b"\x80\x02}q\x00.", "damaged"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_with_the_reason(
    export: Callable[[Path], Any], tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(data)
    result = export(path)
    assert result.exit_code == 6
    assert words in result.error


def test_zips_that_torch_did_not_write(export: Callable[[Path], Any], tmp_path: Path) -> None:
    plain = tmp_path / "plain.zip"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip file, but not one that torch.save wrote" in export(plain).error
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    assert "has compressed entries" in export(bomb).error


@pytest.mark.parametrize("in_zip", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    export: Callable[[Path], Any], content: Content, tmp_path: Path, in_zip: bool, share: float
) -> None:
    path = tmp_path / "short.pth"
    torch.save(content, path, _use_new_zipfile_serialization=in_zip)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    result = export(path)
    assert result.exit_code == 6
    assert "damaged" in result.error


def test_both_formats_give_the_same_tensors_without_the_auxiliary_head(
    small: ModelCard, content: Content, tmp_path: Path
) -> None:
    path = tmp_path / "new.pth"
    torch.save(content, path)
    legacy, new = (load_checkpoint(p, small) for p in (small.folder / small.checkpoint.name, path))
    expected = empty_network(small).state_dict()
    fitted, other = (fit_weights(checkpoint, expected) for checkpoint in (legacy, new))
    assert list(fitted.state) == list(other.state) == list(expected)
    assert all(torch.equal(fitted.state[name], content["state_dict"][name]) for name in expected)
    assert all(torch.equal(fitted.state[name], other.state[name]) for name in expected)
    assert fitted.left_out == other.left_out
    assert set(fitted.left_out) == {name for name in content["state_dict"] if name.startswith(AUXILIARY_HEAD)}
    assert len(fitted.left_out) > 0 and fitted.warnings == ()
    assert legacy.metadata.mmseg_version == "0.5.0"
    assert legacy.metadata.classes == small.class_names
    assert legacy.metadata.config == small.config


def test_a_checkpoint_of_mmengine_with_its_log_buffers_is_read(
    small: ModelCard, content: Content, tmp_path: Path
) -> None:
    from mmengine.logging import MessageHub

    hub = MessageHub("test-checkpoint")
    for step in range(3):
        hub.update_scalar("train/loss", 1 / (step + 1))
    path = tmp_path / "mmengine.pth"
    meta = {"dataset_meta": {"classes": tuple(small.class_names), "palette": [list(c) for c in small.palette]}}
    torch.save({"meta": meta, "message_hub": hub.state_dict(), "state_dict": content["state_dict"]}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # it contains objects that plain weights_only refuses
    checkpoint = load_checkpoint(path, small)
    assert checkpoint.metadata.classes == small.class_names
    assert checkpoint.warnings == ()


def _without(state: Content, name: str) -> None:
    del state[name]


def _with(name: str, tensor: torch.Tensor) -> Callable[[Content], None]:
    return lambda state: state.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: _without(s, "decode_head.conv_seg.bias"), "missing: decode_head.conv_seg.bias"),
        (lambda s: _without(s, "backbone.stem.1.running_var"), "missing: backbone.stem.1.running_var"),
        (
            _with("decode_head.conv_seg.bias", torch.zeros(7)),
            "of another shape: decode_head.conv_seg.bias [7] instead of [5]",
        ),
        (
            _with("decode_head.conv_seg.bias", torch.zeros(5, dtype=torch.int64)),
            "of another kind of number: decode_head.conv_seg.bias torch.int64",
        ),
        (_with("decode_head.conv_seg.bias", torch.full((5,), torch.nan)), "NaN or infinite values in decode_head.c"),
        (_with("decode_head.conv_seg.bias", torch.full((5,), -torch.inf)), "NaN or infinite values in decode_head.c"),
        (lambda s: [_without(s, n) for n in list(s) if "layer4" in n], "in all)"),
        (lambda s: s.clear(), "holds no state dict"),
        (_with("decode_head.conv_seg.bias", "text"), "decode_head.conv_seg.bias is no plain tensor, but a str"),  # type: ignore[arg-type]
    ],
)
def test_keys_shapes_and_values_are_checked(
    export: Callable[[Path], Any], content: Content, tmp_path: Path, change: Callable[[Content], Any], words: str
) -> None:
    change(content["state_dict"])
    path = tmp_path / "changed.pth"
    torch.save(content, path)
    result = export(path)
    assert result.exit_code == 6
    assert words in result.error


def test_another_architecture_lists_the_first_keys_and_their_count(
    export: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "linear.pth"
    torch.save(torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(4)]).state_dict(), path)
    error = export(path).error
    assert "missing: backbone.stem.0.weight, " in error
    assert "unexpected: 0.weight, 0.bias, 1.weight, … (8 in all)" in error


def test_another_number_of_classes_is_an_error(export: Callable[[Path], Any], content: Content, tmp_path: Path) -> None:
    content["meta"]["CLASSES"] = ("road", "sky")
    path = tmp_path / "other.pth"
    torch.save(content, path)
    result = export(path)
    assert result.exit_code == 6
    assert "was trained for 2 classes, the card has 5" in result.error


def test_another_order_of_classes_is_a_warning(
    export: Callable[[Path], Any], small: ModelCard, content: Content, tmp_path: Path
) -> None:
    content["meta"]["CLASSES"] = tuple(reversed(small.class_names))
    content["meta"]["PALETTE"] = [[1, 2, 3]] * 5
    path = tmp_path / "reordered.pth"
    torch.save(OrderedDict(content), path)
    result = export(path)
    assert result.exit_code == 0
    assert "class names differ from the card's: 'boat' (card: 'background')" in result.stderr
    assert "its palette differs from the card's" in result.stderr


def test_half_precision_weights_become_float32(small: ModelCard, content: Content, tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    state = {n: t.half() if t.is_floating_point() else t for n, t in content["state_dict"].items()}
    torch.save({"state_dict": state}, path)
    network = build_network(small, load_checkpoint(path, small))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_counts_of_batches_may_be_missing_and_change_nothing(
    small: ModelCard, content: Content, tmp_path: Path
) -> None:
    """PyTorch had no such count before 0.4.1. Every other buffer of a BatchNorm is required."""
    image = torch.rand(small.input.shape)
    state, logits = content["state_dict"], []
    counts = [name for name in state if name.endswith("num_batches_tracked")]
    for left_out in ([], counts, counts[:1]):
        path = tmp_path / "old.pth"
        torch.save({"state_dict": {name: value for name, value in state.items() if name not in left_out}}, path)
        logits.append(build_network(small, load_checkpoint(path, small))(image))
    assert len(counts) > 10
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


def test_the_digest_must_be_the_cards(cli: Cli, small: ModelCard, content: Content, tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save(content, path)
    result = cli("export-onnx", small.folder, "-o", tmp_path, "--checkpoint", path)
    assert result.exit_code == 5
    assert f"{path}: sha256 is " in result.error
    assert "--allow-unknown-checkpoint" in result.error
    assert cli("export-onnx", small.folder, "-o", tmp_path, "--checkpoint", tmp_path / "none.pth").exit_code == 6
    assert cli("export-onnx", small.folder, "-o", tmp_path).exit_code == 6  # nothing downloaded yet
