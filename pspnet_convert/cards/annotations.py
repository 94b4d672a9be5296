"""What the numbers in a model's annotations mean, and where its data set keeps its files."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pspnet_convert.cards.card_model import CardModel

IGNORED = 255  # mmsegmentation's number for a pixel of no class (seg_pad_val in SegDataPreProcessor)


# Below the data set's root, with slashes; it never leaves the root.
def _check_inside(path: str) -> str:
    if ".." in path.split("/") or not path.isprintable() or "\\" in path:
        raise ValueError("must stay inside the data set's root")
    return path


_Folder = Annotated[str, Field(pattern=r"^($|[^/])", max_length=200), AfterValidator(_check_inside)]
_Suffix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
_Number = Annotated[int, Field(ge=0, le=255)]


class Annotations(CardModel):
    """The annotations that a model was trained on, as mmsegmentation's class of the data set reads them.

    `dataset`: that class. With `reduce_zero_label`, 0 is IGNORED and n is class n - 1; `label_map` then renumbers, and
    what it does not have stays. Pixels of `ignore_index` do not count, by mmsegmentation's IoUMetric of that
    `ignore_index`.
    `image_folder`, `annotation_folder` and `list_file` (of names, one a line; without it, all images of the folder)
    are below the data set's root. A name and a suffix are a file's path below its folder.
    """

    dataset: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    reduce_zero_label: bool = False
    ignore_index: _Number = IGNORED
    label_map: dict[_Number, _Number] | None = None
    image_folder: _Folder = "JPEGImages"
    annotation_folder: _Folder = "SegmentationClass"
    image_suffix: _Suffix = ".jpg"
    annotation_suffix: _Suffix = ".png"
    list_file: _Folder | None = None
