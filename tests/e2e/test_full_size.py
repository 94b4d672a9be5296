"""A full-size PSPNet-R50, 512x512: over HTTP with a broken connection, to a verified IR within the limits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import onnx
import openvino
import pytest
import torch
from conftest import Run, needs_mo
from fault_server import FaultServer, Reply
from irs import PHOTO, assert_equal_from_outside, assert_equal_label_maps, by_both
from make_standin_checkpoint import make_standin

from pspnet_convert.cards.card import load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.to_ir.convert import convert_to_ir
from pspnet_convert.commands.to_ir.front_ends import find_front_end
from pspnet_convert.commands.verify.inputs import verification_inputs
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import build_network
from pspnet_convert.runtimes.backends import OpenVinoBackend, TorchBackend
from pspnet_convert.runtimes.logit_error import error_of

pytestmark = [pytest.mark.slow, pytest.mark.openvino]
PIECE = 100_000_000


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_standin(find_card(), tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full-size")


@pytest.fixture(scope="module")
def done(
    offline: Run, standin: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], FaultServer]:
    """`run` with the card alone: the server of the checkpoint breaks the connection after 100 MB."""
    card_alone = tmp_path_factory.mktemp("card") / "model.yml"
    card_alone.write_bytes(standin.read_bytes())
    server = FaultServer((standin.parent / "standin.pth").read_bytes(), [Reply(cut=PIECE)])
    with server.running():
        result = offline("run", card_alone, "--source", server.url("/models/"), "--json", cwd=folder)
    return result, server


def test_ends_in_a_pass_within_the_limits(done: tuple[subprocess.CompletedProcess[str], FaultServer]) -> None:
    result, _ = done
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["verdict"] == "pass"
    rows: dict[str, Any] = {row["backend"]: row for row in report["stages"][-1]["result"]["comparisons"]}
    assert rows["ONNX"]["relative_error"]["largest"] <= 1e-5
    assert rows["IR FP32"]["relative_error"]["largest"] <= 1e-5
    assert all(row["pixels"] == 512 * 512 for row in rows.values())
    assert len(report["stages"][-1]["result"]["classes_seen"]) >= 5


def test_the_download_was_resumed(
    done: tuple[subprocess.CompletedProcess[str], FaultServer], standin: Path, folder: Path
) -> None:
    _, server = done
    size = load_card(standin).checkpoint.size
    assert [seen.path for seen in server.seen] == ["/models/standin.pth"] * 2
    assert server.ranges[0] is None
    assert server.ranges[1] is not None
    assert size <= server.sent <= size + 1_000_000  # bytes in transit when the connection broke
    assert not list(folder.rglob("*.part"))


def test_the_graph_is_small_and_has_no_gather(
    done: tuple[subprocess.CompletedProcess[str], FaultServer], folder: Path
) -> None:
    (path,) = folder.rglob("*.onnx")
    nodes = onnx.load(str(path)).graph.node
    assert len(nodes) < 250
    assert "Gather" not in {node.op_type for node in nodes}


@needs_mo
def test_both_front_ends_give_the_same(
    done: tuple[subprocess.CompletedProcess[str], FaultServer], standin: Path, folder: Path, tmp_path: Path
) -> None:
    (path,) = folder.rglob("*.onnx")
    card = load_card(standin)
    made = by_both(path, card, tmp_path)
    assert_equal_from_outside(made["mo"]["FP32"], made["ovc"]["FP32"])
    assert_equal_label_maps(made["mo"]["FP32"], made["ovc"]["FP32"], card, PHOTO)


def test_winograd_is_as_exact_as_the_folded_graph(
    done: tuple[subprocess.CompletedProcess[str], FaultServer], standin: Path, folder: Path, tmp_path: Path
) -> None:
    """In float32 both are as far from float64, within 1.3 times; and the file has the same size, within 5 %."""
    card = load_card(standin)
    (onnx_path,) = folder.rglob("*.onnx")
    (folded,) = folder.rglob("FP32/*.xml")
    targets = {precision: tmp_path / f"{precision}.xml" for precision in ("FP32", "FP16")}
    convert_to_ir(onnx_path, card, targets, find_front_end("auto", {}), winograd="auto")
    for precision, path in targets.items():
        (plain,) = folder.rglob(f"{precision}/*.bin")
        assert path.with_suffix(".bin").stat().st_size < 1.05 * plain.stat().st_size
    assert len(_products(targets["FP32"])) == 10
    image = verification_inputs(card, card.input.shape)[0].image
    network = build_network(card, load_checkpoint(standin.parent / "standin.pth", card)).double()
    exact = next(TorchBackend(lambda given: network(given.double()), card.input).run([image]))
    found = [next(OpenVinoBackend(path, card).run([image])) for path in (folded, targets["FP32"])]
    errors = [error_of(one.logits, exact.logits).rms for one in found]
    assert errors[1] < 1.3 * errors[0]


def _products(path: Path) -> list[str]:
    names = [node.get_friendly_name() for node in openvino.Core().read_model(str(path)).get_ops()]
    return [name for name in names if name.endswith("/winograd/product")]


def test_the_standin_has_the_real_checkpoints_form(standin: Path) -> None:
    """Keys and shapes are those of mmsegmentation's config; the file is torch's legacy format."""
    from pspnet_convert.pytorch.network import build_segmentor

    path = standin.parent / "standin.pth"
    assert path.read_bytes()[:2] == b"\x80\x02"
    content = torch.load(path, weights_only=True)
    assert set(content) == {"meta", "state_dict", "optimizer"}
    assert set(content["meta"]) == {
        "env_info", "seed", "mmseg_version", "config", "CLASSES", "PALETTE", "epoch", "iter",
    }  # fmt: skip
    with torch.device("meta"):
        expected = build_segmentor(find_card().config, {}, auxiliary_head=True).state_dict()
    assert {n: t.shape for n, t in content["state_dict"].items()} == {n: t.shape for n, t in expected.items()}
    # The real file is 196212259 bytes; this one differs by what the metadata says.
    assert abs(path.stat().st_size - find_card().checkpoint.size) < 100_000
