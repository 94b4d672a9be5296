"""Code of the user's own that changes the answer: it is in the graph, or the model is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import numpy as np
import pytest
import torch
import voc
from conftest import Cli, slow
from own_package import importable, importing
from PIL import Image as Pillow

PACKAGE = """
import torch
from mmseg.models import EncoderDecoder, SegDataPreProcessor
from mmseg.registry import MODELS


def changed(logits):
    return torch.cat([logits[:, :1] + 1.5, logits[:, 1:]], dim=1)


@MODELS.register_module(force=True)
class OfInference(EncoderDecoder):
    def inference(self, inputs, metas):
        return changed(super().inference(inputs, metas))


@MODELS.register_module(force=True)
class OfWholeInference(EncoderDecoder):
    def whole_inference(self, inputs, metas):
        return changed(super().whole_inference(inputs, metas))


@MODELS.register_module(force=True)
class OfEncodeDecode(EncoderDecoder):
    def encode_decode(self, inputs, metas):
        return changed(super().encode_decode(inputs, metas))


@MODELS.register_module(force=True)
class OfPredict(EncoderDecoder):
    def predict(self, inputs, data_samples=None):
        found = super().predict(inputs, data_samples)
        for one in found:
            one.pred_sem_seg.data = changed(one.seg_logits.data[None])[0].argmax(dim=0, keepdim=True)
        return found


@MODELS.register_module(force=True)
class OfPostprocess(EncoderDecoder):
    def postprocess_result(self, logits, data_samples=None):
        return super().postprocess_result(changed(logits), data_samples)


@MODELS.register_module(force=True)
class Printing(EncoderDecoder):
    def __init__(self, **named):
        super().__init__(**named)
        print("building")

    def encode_decode(self, inputs, metas):
        print("running")
        return super().encode_decode(inputs, metas)


@MODELS.register_module(force=True)
class EqualPredict(EncoderDecoder):
    def predict(self, inputs, data_samples=None):
        return super().predict(inputs, data_samples)


@MODELS.register_module(force=True)
class HalvingPreProcessor(SegDataPreProcessor):
    def forward(self, data, training=False):
        found = super().forward(data, training)
        found["inputs"] = found["inputs"] * 0.5
        return found


@MODELS.register_module(force=True)
class TrainingPreProcessor(SegDataPreProcessor):
    def forward(self, data, training=False):
        found = super().forward(data, training)
        if training:
            found["inputs"] = found["inputs"] + torch.randn_like(found["inputs"])
        return found


@MODELS.register_module(force=True)
class DoublingNorm(torch.nn.BatchNorm2d):
    _abbr_ = "bn"

    def forward(self, values):
        return super().forward(values) * 2


from mmseg.models import ResNetV1c


@MODELS.register_module(force=True)
class HookedBackbone(ResNetV1c):
    def __init__(self, **named):
        super().__init__(**named)
        self.layer1[0].conv1.register_forward_hook(lambda module, given, result: result * 3)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with importable(tmp_path / "code" / "own_answers.py", PACKAGE, monkeypatch):
        yield


def own(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """A config with these changes of its `model`, and a checkpoint that fits it."""
    given = {f"model__{name}": value for name, value in changes.items()}
    config = theirs.write_config(folder / "own.py", folder, "BaseSegDataset", 3, **given)
    importing(config, "own_answers")
    return config, theirs.save_checkpoint(folder / "weights.pth", ["a", "b", "c"], [[0, 0, 0], [9, 0, 0], [0, 9, 0]])


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "OfWholeInference"},
        slow({"type": "OfInference"}),
        slow({"type": "OfEncodeDecode"}),
        slow({"type": "EqualPredict"}),
        {"decode_head__norm_cfg__type": "DoublingNorm"},
        slow({"backbone__norm_cfg__type": "DoublingNorm"}),
        slow({"backbone__type": "HookedBackbone"}),
        slow({"data_preprocessor__type": "TrainingPreProcessor"}),
    ],
)
def test_the_ir_answers_as_mmsegmentation(cli: Cli, package: None, tmp_path: Path, changes: dict[str, Any]) -> None:
    config, weights = own(tmp_path, **changes)
    image = tmp_path / "image.png"
    Pillow.fromarray(voc.drawing(*theirs.CROP, 1)).save(image)
    given = ("--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    done = cli("run", *given, "--images", image)
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "out" / "public" / "own"
    assert cli("segment", image, "--model", folder, "-o", tmp_path / "out", "--precision", "FP32").exit_code == 0
    found = np.asarray(Pillow.open(folder / "segmented" / "image.labels.png"))
    (expected,) = theirs.labels_of(config, weights, [image])
    assert len(np.unique(expected)) > 1
    assert (found == expected).mean() > 0.999  # a pixel may be a near-tie


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "OfPredict"}, "OfPredict.predict changes the label map after `inference`: the ONNX would not do it"),
        ({"type": "OfPostprocess"}, "OfPostprocess.postprocess_result changes the label map after `inference`"),
        (
            {"data_preprocessor__type": "HalvingPreProcessor"},
            "model.data_preprocessor: HalvingPreProcessor does not only subtract a mean and divide by a std",
        ),
    ],
)
def test_what_no_model_would_do_is_refused(
    cli: Cli, package: None, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    config, weights = own(tmp_path, **changes)
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 3, done.stderr
    assert words in done.error


def test_what_own_code_prints_is_not_in_the_result(cli: Cli, package: None, tmp_path: Path) -> None:
    config, weights = own(tmp_path, type="Printing")
    done = cli("export-onnx", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0 and done.json()
    assert "building" in done.stderr and "running" in done.stderr


def test_an_own_preprocessor_in_a_checkpoints_config_is_refused(cli: Cli, package: None, tmp_path: Path) -> None:
    from mmengine.config import Config

    config, weights = own(tmp_path, data_preprocessor__type="HalvingPreProcessor")
    content = torch.load(weights, weights_only=True)
    torch.save({**content, "meta": {**content["meta"], "cfg": Config.fromfile(str(config)).pretty_text}}, weights)
    done = cli("run", "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 3, done.stderr
    assert "data_preprocessor: HalvingPreProcessor is not SegDataPreProcessor" in done.error
    assert "need the config: give it with --config" in done.error
