"""Small models of images that are no pictures of three colours: configs, checkpoints, images, data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import numpy as np
import tifffile
import torch
import voc
from make_standin_checkpoint import calibrate
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.pytorch.network import PSPNet, build_inline

CLASSES = 3
NAMES, PALETTE = ["ground", "water", "trees"], [[0, 0, 0], [0, 0, 200], [0, 200, 0]]


@dataclass(frozen=True)
class Kind:
    """A kind of images. `loader`: arguments of LoadImageFromFile. `dtype` and `suffix`: of the files."""

    channels: int
    mean: Sequence[float]
    std: Sequence[float]
    dtype: str
    suffix: str
    loader: Mapping[str, Any] = field(default_factory=dict)

    def array(self, height: int, width: int, seed: int = 0) -> NDArray[Any]:
        """An image [H, W, C] with values around the mean, smooth in parts."""
        random = np.random.default_rng(seed)
        coarse = random.standard_normal((-(-height // 6), -(-width // 6), self.channels))
        values = coarse.repeat(6, axis=0).repeat(6, axis=1)[:height, :width] + random.normal(
            0, 0.1, (height, width, self.channels)
        )
        values = values * np.array(self.std) + np.array(self.mean)
        if self.dtype == "float32":
            return values.astype(np.float32)
        limits = np.iinfo(self.dtype)
        return np.rint(values).clip(limits.min, limits.max).astype(self.dtype)

    def save(self, path: Path, height: int, width: int, seed: int = 0) -> Path:
        return save(path, self.array(height, width, seed))


GREY = Kind(1, [110.5], [50], "uint8", ".png", {"color_type": "grayscale"})
GREY_16 = Kind(1, [2000], [900], "uint16", ".png", {"color_type": "unchanged"})
RADAR = Kind(1, [-12.5], [4.25], "float32", ".tif", {"imdecode_backend": "tifffile"})
FOUR = Kind(4, [1200, 900.5, 3000, 10], [500, 300, 1500, 4], "uint16", ".tif", {"imdecode_backend": "tifffile"})
RGBA = Kind(4, [120, 110, 100, 90], [60, 55, 50, 45], "uint8", ".png", {"color_type": "unchanged"})
ARRAYS = Kind(4, [0.2, 0.1, 0.3, 0.4], [0.1, 0.05, 0.2, 0.3], "float32", ".npy")
THREE_16 = Kind(3, [3000, 2500, 2000], [900, 800, 700], "uint16", ".tif", {"imdecode_backend": "tifffile"})
FAR = Kind(3, [70000, -30000, 5], [3, 300, 1], "float32", ".tif", {"imdecode_backend": "tifffile"})
MINUTE = Kind(2, [1e-4, 2e-9], [5e-5, 1e-9], "float32", ".tif", {"imdecode_backend": "tifffile"})
THIRTEEN = Kind(
    13,
    [100.0 * (band + 1) for band in range(13)],
    [20.0 * (band + 1) for band in range(13)],
    "uint16",
    ".tif",
    {"imdecode_backend": "tifffile"},
)


def save(path: Path, array: NDArray[Any]) -> Path:
    """Write an image [H, W, C] in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = array[:, :, 0] if array.shape[2] == 1 else array
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, flat, photometric="minisblack", planarconfig="contig" if flat.ndim == 3 else None)
    else:
        Pillow.fromarray(flat).save(path)
    return path


def network(channels: int) -> dict[str, Any]:
    """A config's `model` section."""
    section = theirs.network(CLASSES)
    return {**section, "backbone": {**section["backbone"], "in_channels": channels}}


@cache
def weights(channels: int) -> Mapping[str, Any]:
    """Random weights that give each class somewhere."""
    torch.manual_seed(0)
    built = PSPNet(build_inline(network(channels)), channels).eval()
    coarse = torch.randn(3, channels, 9, 9, generator=torch.Generator().manual_seed(1))
    calibrate(built, torch.nn.functional.interpolate(coarse * 1.2, size=(64, 64), mode="bicubic"))
    return built.state_dict()


def save_checkpoint(path: Path, channels: int) -> Path:
    torch.save({"state_dict": weights(channels), "meta": {"CLASSES": NAMES, "PALETTE": PALETTE}}, path)
    return path


def write_data(root: Path, kind: Kind, sizes: Sequence[tuple[int, int]] = theirs.SIZES, classes: int = CLASSES) -> Path:
    """Images with annotations, img_dir/val and ann_dir/val."""
    for number, (height, width) in enumerate(sizes):
        kind.save(root / "img_dir" / "val" / f"{number:03}{kind.suffix}", height, width, number)
        annotation = root / "ann_dir" / "val" / f"{number:03}.png"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(voc.blocks(height, width, classes, number)).save(annotation)
    return root


def write_config(path: Path, kind: Kind, root: Path, **changes: Any) -> Path:
    """A config that trains and tests the small network on `root`; `changes` as in mmsegmentation.py."""
    places = {"img_path": "img_dir/val", "seg_map_path": "ann_dir/val"}
    preprocessor = {
        "type": "SegDataPreProcessor",
        "mean": list(kind.mean),
        "std": list(kind.std),
        "pad_val": 0,
        "seg_pad_val": 255,
        "size": theirs.CROP,
    }
    data = {
        "img_suffix": kind.suffix,
        "seg_map_suffix": ".png",
        "data_prefix": places,
        "metainfo": {"classes": NAMES, "palette": PALETTE},
    }
    named = {f"test_dataloader__dataset__{name}": value for name, value in data.items()}
    written = theirs.write_config(
        path, root, "BaseSegDataset", CLASSES, model__data_preprocessor={"_delete_": True, **preprocessor}, **named
    )
    from mmengine.config import Config

    config = Config.fromfile(str(written))
    config.model = {**network(kind.channels), "data_preprocessor": preprocessor, "test_cfg": {"mode": "whole"}}
    for pipeline in (config.test_dataloader.dataset.pipeline, config.test_pipeline):
        pipeline[0] = {"type": "LoadImageFromFile", **kind.loader}
    config.merge_from_dict({key.replace("__", "."): value for key, value in changes.items()}, allow_list_keys=True)
    config.dump(str(path))
    return path


@dataclass(frozen=True)
class Own:
    """A model of one kind: its config, checkpoint and data set."""

    kind: Kind
    config: Path
    checkpoint: Path
    root: Path

    @property
    def images(self) -> list[Path]:
        return sorted((self.root / "img_dir" / "val").iterdir())

    @property
    def given(self) -> list[object]:
        """The options that name the model."""
        return ["--config", self.config, "--checkpoint", self.checkpoint]


def make_own(folder: Path, kind: Kind, **changes: Any) -> Own:
    folder.mkdir(parents=True, exist_ok=True)
    root = write_data(folder / "data", kind)
    config = write_config(folder / "bands.py", kind, root, **changes)
    return Own(kind, config, save_checkpoint(folder / "weights.pth", kind.channels), root)


Make = Callable[..., Own]
