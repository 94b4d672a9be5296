"""What must be named for each fault of the catalogue: its cause in words, the layer, or both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pspnet_convert.manifest_fields import Explanation


@dataclass(frozen=True)
class Expected:
    """Regular expressions. `words`: of the cause. `layer`: of the layer's name, where the fault is in one. With both,
    either will do. With none, the check `contract` says what is wrong."""

    words: str = ""
    layer: str = ""

    def judge(self, explanation: Explanation | None, by: Mapping[str, str]) -> str:
        """`right`, `WRONG` or `none`. `by`: the checks that caught it."""
        if explanation is None:
            return "right" if "contract" in by else "none"
        if explanation.cause is not None:
            return "right" if self.words and re.search(self.words, explanation.cause.what) else "WRONG"
        if explanation.layer is not None:
            return "right" if self.layer and re.search(self.layer, explanation.layer.layer) else "WRONG"
        return "none"


_LAYER = "backbone.layer3.1.conv2"
_SWAPPED = "^red and blue are swapped"
EXPECTED = {
    "a bias off by 1 %": Expected("last layer's bias is 1.01 times", "decode_head.conv_seg"),
    "no bias in the last layer": Expected("last layer's bias is missing", "decode_head.conv_seg"),
    "one channel of one layer off by 1 %": Expected(layer=_LAYER),
    "one weight doubled": Expected(layer=_LAYER),
    "two channels of one layer swapped": Expected(layer=_LAYER),
    "input channels of the first layer reversed": Expected(f"{_SWAPPED}, and their means", "backbone.stem.0"),
    "kernels mirrored": Expected(layer=_LAYER),
    "kernels transposed": Expected(layer=_LAYER),
    "two classes swapped": Expected("^classes 0 and 1 are swapped", "decode_head.conv_seg"),
    "another checkpoint's weights in one layer": Expected(layer=_LAYER),
    "one weight is not a number": Expected("not finite", _LAYER),
    "weights rounded to 8 bits": Expected("^weights are rounded to 8 bits$"),
    "weights rounded to FP16": Expected("^weights are rounded to FP16$"),
    "weights rounded to bf16": Expected("^weights are rounded to bf16$"),
    "a bin of the pyramid dropped": Expected(layer=r"decode_head\.taps\.\d"),
    "bins in another order": Expected(layer=r"decode_head\.projections\.[01]"),
    "pooling by kernel and stride": Expected(layer=r"decode_head\.pool"),
    "cells of a bin in the opposite order": Expected(layer=r"decode_head\.pool"),
    "cells stretched with align_corners": Expected(layer="decode_head"),
    "borders repeated instead of zeros": Expected(layer="decode_head"),
    "a layer's dilation halved": Expected(layer=r"backbone\.layer4\.\d\.conv\d"),
    "a layer's padding on one side": Expected(layer=r"backbone\.layer4\.\d\.conv\d"),
    "a layer's stride in its second convolution": Expected(layer=r"backbone\.layer2\.0\.conv1"),
    "max pooling that pads at the end": Expected(layer=r"backbone\.maxpool"),
    "average instead of max pooling": Expected(layer=r"backbone\.maxpool"),
    "a ReLU left out": Expected(layer="decode_head"),
    "resized with align_corners": Expected("resized with align_corners"),
    "resized without the half-pixel offset": Expected("resized without the half-pixel offset"),
    "resized to the nearest": Expected("resized to the nearest"),
    "resized by cubic interpolation": Expected("resized by cubic interpolation"),
    "argmin": Expected("argmin"),
    "logits rounded to FP16": Expected("^logits are rounded to FP16"),
    "probabilities instead of logits": Expected("softmax"),
    "labels off by one": Expected("labels are too high by 1"),
    "labels counted from the end": Expected("counted from the end"),
    "label map transposed": Expected("rows and columns of the label map are exchanged"),
    "label map mirrored": Expected("label map is mirrored left to right"),
    "the last of equal logits instead of the first": Expected("of equal logits, the label is the last one"),
    "the auxiliary head's output": Expected(layer="decode_head"),
    "a BatchNorm's eps of 1e-3": Expected("BatchNorm's eps is 0.001", "backbone.stem.0"),
    "channels not reversed": Expected(f"{_SWAPPED}$"),
    "channels not reversed, mean and scale for them": Expected(f"{_SWAPPED}, and their means and scales with them"),
    "no mean": Expected("^the mean is missing"),
    "no scale": Expected("^the scale is missing"),
    "neither mean nor scale": Expected("^mean and scale are missing"),
    "means of red and blue swapped": Expected("^the means of red and blue are swapped"),
    "means in another order": Expected("^the means are in another order"),
    "scales of red and blue swapped": Expected("^the scales of red and blue are swapped"),
    "mean and scale exchanged": Expected("^mean and scale are exchanged"),
    "all means off by 1 %": Expected(r"^the mean is \[124\.[89]\S*, 117\.[45]\S*, 104\.[56]\S*, the card says"),
    "one mean off by 1 %": Expected(r"^red's mean is 124\.[89]\S*, the card says 123\."),
    "all scales off by 1 %": Expected(r"^the scale is \[58\.9\S*, 57\.[67]\S*, 57\.9\S*, the card says"),
    "one scale off by 1 %": Expected(r"^red's scale is 58\.9\S*, the card says 58\."),
    "scale before mean": Expected("^the scale is applied before the mean"),
    "for images of 0..1": Expected(r"^mean and scale are those of values of 0\.\.1"),
    "channels reversed twice": Expected(f"{_SWAPPED}$"),
    "two slots swapped": Expected("images of a batch are mixed up"),
    "every slot answers as the first": Expected("images of a batch are mixed up"),
    "the last slot answers as the second": Expected("images of a batch are mixed up"),
    "the second slot scaled by 1 %": Expected("^the scale is"),
    "bytes cut off at 127": Expected("values above 127 are cut off"),
    "bytes off by one": Expected("^the mean is"),
    "bytes taken as signed": Expected("signed bytes"),
    "channels last, height and width exchanged": Expected("rows and columns of the input are exchanged"),
}  # the others are caught by the check `contract`


def expected_of(name: str) -> Expected:
    return EXPECTED.get(name, Expected())
