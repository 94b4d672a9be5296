"""The base of the parts of a card, and the texts in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$"


def _without_control_characters(text: str) -> str:
    """Refuse ESC and other characters that control a terminal: texts are printed and written into converted files."""
    for character in text:
        is_blank = character in "\n\t" or (character.isspace() and character > "\x9f")
        if not is_blank and not character.isprintable():
            raise ValueError(f"has the control character {character!r}")
    return text


Text = Annotated[str, Field(max_length=2000), AfterValidator(_without_control_characters)]
Label = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_without_control_characters)]


class CardModel(BaseModel):
    """Base of the parts of a card: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
