"""A network with classes of the user's own: no card can describe it, so that it is built from its config each time.

The config, and the code that it imports, are programs from the user's command line. A card or manifest never brings
them: a card has only their digest.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.config_card import read_config
from pspnet_convert.cards.config_parts import input_channels, preprocessor_of, type_of
from pspnet_convert.cards.inline_network import HEAD, SEGMENTOR, WHY_NOT, NotConvertedError
from pspnet_convert.cards.normalisation import normalisation
from pspnet_convert.cards.registry_names import OPENMMLAB, registered
from pspnet_convert.cards.testing import PREPROCESSOR
from pspnet_convert.errors import CardError, first_line
from pspnet_convert.mmcv_ops import provide_mmcv_ops

if TYPE_CHECKING:
    from mmengine.config import Config

_NOT_BUILT = ("auxiliary_head", "data_preprocessor", "pretrained")
# Built, but of no effect on what is converted. (test_cfg has one: a segmentor's own code may read it.)
_FOR_TRAINING = ("loss_decode", "train_cfg")


class OwnNetwork:
    """The `model` section of the config at `path`. Another process that is given it runs the config again."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path.absolute()
        section = {key: value for key, value in config.model.to_dict().items() if key not in _NOT_BUILT}
        self.section: dict[str, Any] = _without_compiled_norms(section)

    def __reduce__(self) -> Any:
        return _read, (self.path,)

    def digest(self, classes: Mapping[str, Any]) -> str:
        """The SHA-256 of the section without its losses, and of the files with the user's `classes`.

        CardError for a class whose file cannot be read.
        """
        section = json.dumps(_for_digest(self.section), sort_keys=True, default=lambda value: type(value).__name__)
        found = sha256(section.encode())
        for file in sorted({_file_of(kind, self.path) for kind in classes.values()}):
            try:
                found.update(file.read_bytes())
            except OSError as error:
                raise CardError(
                    f"{file}: the code of the config's classes cannot be read: {error.strerror or error}",
                    "Install it as files in a folder, not in a zip or egg.",
                ) from error
        return found.hexdigest()


def own_classes(network: Mapping[str, Any]) -> dict[str, Any]:
    """The classes in a config's `model` section that are not OpenMMLab's or PyTorch's, by place.

    The config has been run, so that its `custom_imports` have registered them.
    """
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # of missing optional packages
        provide_mmcv_ops()
        import mmseg.models  # noqa: F401
    found = {place: _class_of(name) for place, name in _types(network)}
    return {place: kind for place, kind in found.items() if kind is not None and _package(kind) not in OPENMMLAB}


def check_own_network(network: Mapping[str, Any]) -> None:
    """Raise ValueError, with the place, for a network that is no PSPNet or has a part that cannot be converted."""
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads import PSPHead

    types = dict(_types(network))
    for place, name in types.items():
        if name in WHY_NOT:
            raise NotConvertedError(f"{place}: {name} {WHY_NOT[name]}")
    for place, needed, base in (("type", SEGMENTOR, EncoderDecoder), ("decode_head.type", HEAD, PSPHead)):
        kind = _class_of(types.get(place, ""))
        is_own = isinstance(kind, type) and issubclass(kind, base) and _package(kind) not in OPENMMLAB
        if kind is not base and not is_own:
            raise ValueError(f"{place}: {types.get(place)!r} is neither {needed} nor a subclass of it of your own")


def check_preprocessor(config: Config, *, only_known: bool) -> None:
    """Raise ValueError for a data preprocessor of the user's own that does not only normalise: no model would do it.

    `only_known`: it is not imported, and refused.
    """
    section = preprocessor_of(config)
    name = type_of({"type": PREPROCESSOR, **section})
    if name == PREPROCESSOR:
        return
    if only_known or _class_of(name) is None:
        raise ValueError(f"data_preprocessor: {name} is not {PREPROCESSOR}")
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    image = torch.randint(256, (input_channels(config), 32, 32), generator=torch.Generator().manual_seed(0))
    known = normalisation([], section, len(image))
    try:
        with DefaultScope.overwrite_default_scope("mmseg"):
            built = MODELS.build(ConfigDict(section)).eval()
        sample = SegDataSample(metainfo={"img_shape": (32, 32)})
        found = built({"inputs": [image.to(torch.uint8)], "data_samples": [sample]}, False)["inputs"][0].double()
    except Exception as error:  # the user's code raises errors of any kind
        raise ValueError(f"data_preprocessor: {name} fails on a drawn image: {first_line(error)}") from error
    mean, scale = (torch.tensor(values).double()[:, None, None] for values in (known.mean, known.scale))
    expected = ((image.flip(0) if known.color_order == "RGB" else image) - mean) / scale
    found = found[..., : image.shape[1], : image.shape[2]]  # it may pad
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-4, atol=1e-4):
        raise ValueError(
            f"data_preprocessor: {name} does not only subtract a mean and divide by a std, and an IR would do no more"
        )


def _for_digest(value: Any) -> Any:
    """The section as JSON can hold it in order: its keys, which may be of any kind, become texts."""
    if isinstance(value, Mapping):
        return {repr(key): _for_digest(inner) for key, inner in value.items() if key not in _FOR_TRAINING}
    return [_for_digest(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _read(path: Path) -> OwnNetwork:
    return OwnNetwork(path, read_config(path))


def _types(data: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Each `type` in the section, and its place."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            inner = f"{place}.{key}" if place else str(key)
            if key == "type" and isinstance(value, str):
                yield inner, value
            yield from _types(value, inner)
    elif isinstance(data, (list, tuple)):
        for number, value in enumerate(data):
            yield from _types(value, f"{place}.{number}")


def _class_of(name: str) -> Any:
    """What mmsegmentation's registry has under this name; None if it has nothing."""
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    try:
        with DefaultScope.overwrite_default_scope("mmseg"):
            return MODELS.get(name)
    except Exception:  # it imports what a name with dots asks for
        return None


def _package(kind: Any) -> str:
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _file_of(kind: Any, config: Path) -> Path:
    """The file with the class: the config itself, if it defines the class."""
    try:
        return Path(inspect.getfile(kind))
    except (TypeError, OSError):
        return config


def _without_compiled_norms(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: registered(inner) if key == "type" and inner == "MMSyncBN" else _without_compiled_norms(inner)
            for key, inner in value.items()
        }
    return type(value)(map(_without_compiled_norms, value)) if type(value) in (list, tuple) else value
