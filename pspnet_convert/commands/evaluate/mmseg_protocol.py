"""mmsegmentation's protocol: what its Runner.test() does with the test pipeline, test mode and metric of a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.testing import Testing
from pspnet_convert.commands.evaluate.samples import Loaded, Sample
from pspnet_convert.errors import CardError, ImageError
from pspnet_convert.runtimes.images import Size, picture_size
from pspnet_convert.runtimes.merging import Bytes, Windows
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.test_pipeline import MmsegPipeline, Prepared, windows


def require_testing(card: ModelCard) -> Testing:
    """The card's `testing`; CardError if it has none."""
    if card.mmseg_test is None:
        raise CardError(
            f"{card.name}: its card does not say how mmsegmentation tests it (`testing`)",
            "Use --protocol crop or pad.",
        )
    return card.mmseg_test


def open_mmseg(card: ModelCard) -> Callable[[Path], Loaded]:
    """A function that reads a picture; it raises ImageError for one that cannot be read."""
    testing, files = require_testing(card), ModelImages.of(card)
    pipeline = MmsegPipeline(testing, card.input)

    def load(path: Path) -> Loaded:
        files.check_whole(path)
        prepared = pipeline.prepare(path)
        return Loaded(prepared.original, partial(_sample, testing, prepared))

    return load


def _sample(testing: Testing, prepared: Prepared, truth: Bytes) -> Sample:
    places = windows(prepared.size, testing)
    size = truth.shape[0], truth.shape[1]
    return Sample(
        [prepared.image[place] for place in places],
        truth,
        lambda classes, align: Windows(places, prepared, size, classes, align=align),
    )


def misfit(card: ModelCard, images: Sequence[Path], size: Size) -> tuple[str, str] | None:
    """Why a converted model of `size` cannot be evaluated by this protocol, and what to do; None if it can.

    Reads the images' headers. What cannot be read does not count: it is reported when its turn comes.
    """
    testing = require_testing(card)
    pipeline = MmsegPipeline(testing, card.input)
    given: Counter[Size] = Counter()

    @cache
    def sizes_given(original: Size) -> set[Size]:
        try:
            padded = pipeline.size_of(original)
        except ImageError:
            return set()
        places = windows(padded, testing)
        return {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in places}

    for path in images:
        original = picture_size(path)
        given.update(sizes_given(original) if original else ())
    others = [found for found in given if found != size]
    if not others:
        return None
    advice = "Use --protocol crop or pad, or evaluate only PyTorch (--backend PyTorch), which takes any size."
    if len(given) == 1:
        shape = ",".join(map(str, (1, card.input.channels, *others[0])))
        advice = f"Export with --input-shape {shape} for this data set. {advice}"
    most = max(others, key=lambda one: given[one])
    more = f" and {len(others) - 1} other sizes" if len(others) > 1 else ""
    return f"takes only {_text(size)}, and protocol mmseg gives {_text(most)}{more}", advice


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
