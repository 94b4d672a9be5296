"""The options that many commands share: which model, which checkpoint, where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pspnet_convert.options import FILE, Options, argument, option
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
        help="A checkpoint file that you have. With --config: the one trained with that config.",
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


OWN_MODEL = ("config", "checkpoint")
CHECKPOINT = (*OWN_MODEL, "allow_unknown_checkpoint")
PLACE = ("model", "output_dir")
RUN = ("force", "progress")
