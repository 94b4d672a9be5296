"""The options that many commands share: which model, which checkpoint, where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pspnet_convert.forms import KEY_PREFIX, MODEL_NAME, Colour
from pspnet_convert.label_options import ClassNames, Palette
from pspnet_convert.options import FILE, KeyPrefix, Matching, Options, argument, option
from pspnet_convert.progress import MODES

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard


class Model(click.ParamType):
    """A model's name, the path of its `model.yml` or of the folder that holds it; from Python also its card."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Path):
            return str(value) if value.is_absolute() else f"./{value}"  # never a name: `demo` is a model
        if isinstance(value, str) or type(value).__name__ == "ModelCard":  # the class would be a slow import
            return value
        return self.fail(f"{value!r} is neither a name, nor a path, nor a card", param, ctx)


@dataclass(frozen=True)
class JobOptions(Options):
    """One model in its workspace. A command takes some of these."""

    model: str | ModelCard | None = argument(None, type=Model())
    output_dir: Path = option(
        Path(),
        "-o",
        "--output-dir",
        group="Output",
        type=click.Path(path_type=Path),
        show_default="the current folder",
        help="The folder that holds public/<model>/.",
    )
    config: Path | None = option(
        None,
        group="Input",
        type=FILE,
        help="The config of your own mmsegmentation PSPNet, in place of MODEL. The file is a Python program, and this "
        "command runs it.",
    )
    checkpoint: Path | None = option(
        None,
        group="Input",
        type=FILE,
        help="A checkpoint file that you have: .pth, .pt or .safetensors. With --config: the one trained with that "
        "config. Alone (no MODEL, no --config): of your own model, by the config in its metadata, unless it is "
        "the default model's.",
    )
    weights: str | None = option(
        None,
        group="Input",
        type=Matching(r"[ -~]+", 100, "the name of a set of weights"),
        metavar="NAME",
        show_default="state_dict, or the only one",
        help="Which of several sets of weights in the checkpoint: ema_state_dict, say.",
    )
    prefix: str | None = option(
        None,
        group="Input",
        type=KeyPrefix(KEY_PREFIX, 200, "a prefix of keys, as model. or student."),
        metavar="PREFIX",
        show_default="found",
        help="What the network's keys in the checkpoint begin with: student., say.",
    )
    name: str | None = option(
        None,
        group="Input",
        type=Matching(MODEL_NAME, 100, "a model's name (a-z, 0-9, - and _)"),
        metavar="NAME",
        show_default="the config's",
        help="For your own model: its name.",
    )
    classes: tuple[str, ...] | None = option(
        None,
        group="Input",
        type=ClassNames(),
        show_default="the checkpoint's, or the config's",
        help="For your own model: the names of its classes, or a file with one a line.",
    )
    palette: tuple[Colour, ...] | None = option(
        None,
        group="Input",
        type=Palette(),
        show_default="the checkpoint's, or the config's",
        help="For your own model: a file with the colours of its classes, r,g,b or #rrggbb a line, or a JSON list.",
    )
    allow_unknown_checkpoint: bool = option(
        False, group="Input", help="Take the checkpoint although its digest is not the card's."
    )
    force: bool = option(False, group="Output", help="Run the stages again even if nothing has changed.")
    progress: str = option(
        "auto",
        group="Output",
        type=click.Choice(MODES),
        help="auto: a bar on a terminal; json: one event a line on stdout.",
    )


OF_OWN_CARD = ("name", "classes", "palette")  # what a MODEL's card says
OWN_MODEL = ("config", "checkpoint", "weights", "prefix", *OF_OWN_CARD)
CHECKPOINT = (*OWN_MODEL, "allow_unknown_checkpoint")
PLACE = ("model", "output_dir")
RUN = ("force", "progress")
