"""The check `preprocessing`: mmsegmentation gives the network the same tensor for an image as this tool does.

The comparison of models cannot see a card that misstates mean, scale or channel order: the reference reads it too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.cards.config_card import read_config
from pspnet_convert.cards.config_parts import preprocessor_of
from pspnet_convert.cards.model_index import package_folder
from pspnet_convert.cards.normalisation import normalisation
from pspnet_convert.cards.testing import Testing
from pspnet_convert.commands.verify.inputs import own_sheet
from pspnet_convert.errors import ConvertError, first_line
from pspnet_convert.manifest_fields import Check
from pspnet_convert.runtimes.backends import normalised
from pspnet_convert.runtimes.images import SAMPLES
from pspnet_convert.runtimes.input_form import PLAIN, InputForm
from pspnet_convert.runtimes.test_pipeline import MmsegPipeline, build_steps
from pspnet_convert.runtimes.value_range import value_ranges

PREPROCESSING = "preprocessing"
WHAT = "{} becomes the tensor that mmsegmentation's own test makes of it"
_DRAWN_SIZE = 90, 130
PHOTOGRAPH = SAMPLES / "chelsea.jpg"  # not square
_ROUNDING = 1e-5  # of the largest value: float32 rounds at 6e-8, and each side rounds a few times
_Tensor = NDArray[np.float32]
_Steps = Sequence[Mapping[str, Any]]


def check_preprocessing(card: ModelCard) -> Check | None:
    """The result for a card that has `testing`; None for another.

    The pipeline is the card's. The data preprocessor is that of the card's config, if it names one.
    """
    if card.mmseg_test is None:
        return None
    preprocessor = _preprocessor_of_config(card) if card.config else card.mmseg_test.preprocessor
    with _shown_image(card.input, card.mmseg_test) as path:
        fault = preprocessing_fault(card, card.mmseg_test.pipeline, preprocessor, path)
    what = WHAT.format("a photograph" if path == PHOTOGRAPH else "a drawn image")
    return Check(name=PREPROCESSING, what=what, passed=fault is None, faults=[fault] if fault else [])


@contextmanager
def _shown_image(card_input: Input, testing: Testing) -> Iterator[Path]:
    """A file that the pipeline loads with the model's channels: a photograph, or a drawn image in its values."""
    if testing.channels_loaded is not None:
        yield PHOTOGRAPH
        return
    with TemporaryDirectory() as folder:
        yield _write_drawn(card_input, Path(folder), is_tiff=testing.loads_by_tifffile)


def _write_drawn(card_input: Input, folder: Path, *, is_tiff: bool) -> Path:
    """A TIFF of the numbers that the model probably takes, or a PNG, which has bytes or 16-bit numbers."""
    has_bytes = max(high for _, high in value_ranges(card_input)) <= np.iinfo(np.uint8).max
    image = own_sheet(*_DRAWN_SIZE, card_input, PLAIN if is_tiff else InputForm("u8" if has_bytes else "u16"))
    image = image[:, :, 0] if card_input.channels == 1 else image
    if is_tiff:
        import tifffile

        path = folder / "drawn.tif"
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig=None if image.ndim == 2 else "contig")
    else:
        import cv2

        path = folder / "drawn.png"
        cv2.imwrite(str(path), image)
    return path


def preprocessing_fault(
    card: ModelCard, pipeline: _Steps, preprocessor: Mapping[str, Any], path: Path = PHOTOGRAPH
) -> str | None:
    """How this tool's tensor differs from mmsegmentation's, of `pipeline` and `preprocessor`; None if it does not."""
    assert card.mmseg_test is not None
    try:
        prepared = MmsegPipeline(card.mmseg_test, card.input).prepare(path)
    except ConvertError as error:
        return error.what
    ours = normalised([prepared.image], card.input)[0]
    try:
        theirs = _mmsegmentations(pipeline, preprocessor, path)
    except Exception as error:  # mmsegmentation's classes raise errors of any kind
        return f"mmsegmentation does not run the test pipeline: {first_line(error)}"
    difference = tensor_difference(ours, theirs)
    if difference is None:
        return None
    return f"{_different_values(card, pipeline, preprocessor)}{path.name}: {difference}"


def _preprocessor_of_config(card: ModelCard) -> dict[str, Any]:
    config = read_config(package_folder() / "configs" / str(card.config))
    config.merge_from_dict(dict(card.config_overrides))
    return {key: value for key, value in preprocessor_of(config).items() if key != "type"}


def _mmsegmentations(pipeline: _Steps, preprocessor: Mapping[str, Any], path: Path) -> _Tensor:
    """The network's input [3, H, W], by mmsegmentation's own classes."""
    results: Any = {"img_path": str(path)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages
        for step in build_steps([step for step in pipeline if step["type"] != "LoadAnnotations"]):
            results = step(results)
        from mmseg.models import SegDataPreProcessor

        given = {"inputs": [results["inputs"]], "data_samples": [results["data_samples"]]}
        tensor: _Tensor = SegDataPreProcessor(**preprocessor)(given)["inputs"][0].numpy()
    return tensor


def tensor_difference(ours: _Tensor, theirs: _Tensor) -> str | None:
    """Where the tensors differ most, with both values; None if they do not, except by rounding."""
    if ours.shape != theirs.shape:
        return f"mmsegmentation's tensor is {list(theirs.shape)}, this tool's {list(ours.shape)}"
    differences = np.abs(ours - theirs)
    if differences.max() <= _ROUNDING * np.abs(theirs).max():
        return None
    place = channel, row, column = np.unravel_index(int(differences.argmax()), differences.shape)
    values = f"mmsegmentation's tensor has {theirs[place]:.6g}, this tool's {ours[place]:.6g}"
    return f"{values} at row {row}, column {column}, channel {channel}"


def _different_values(card: ModelCard, pipeline: _Steps, preprocessor: Mapping[str, Any]) -> str:
    """The values of the card's input that are not mmsegmentation's, and those."""
    right = normalisation(pipeline, preprocessor, card.input.channels)
    origin = "the config" if card.config else "its testing"
    words = []
    for name in ("color_order", "mean", "scale"):
        ours, theirs = getattr(card.input, name), getattr(right, name)
        if ours != theirs:
            ours, theirs = (value if isinstance(value, str) else list(value) for value in (ours, theirs))
            words.append(f"the card's {name} is {ours}, {origin}'s {theirs}; ")
    return "".join(words)
