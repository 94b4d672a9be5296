"""A stage as a value, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pspnet_convert.manifest_fields import File
from pspnet_convert.options import Options
from pspnet_convert.workspace import Workspace


@dataclass(frozen=True)
class Stage:
    """One stage as a value: what it is given, and the function that does it.

    `inputs`: plain values, as the manifest holds them. `tools`: the packages whose versions change the result. `make`
    writes its files into the temporary workspace that it is given, and returns the result in plain values. `outputs`:
    the files that it makes, by their places in the job's workspace; None for all that it writes. `clears`: a folder;
    its other files are deleted after the outputs are moved in. A stage that is not `recorded` runs each time, and
    leaves neither files nor a record.
    """

    name: str
    make: Callable[[Workspace], Mapping[str, Any]]
    inputs: Mapping[str, Any]
    options: Options = field(default_factory=Options)
    tools: Sequence[str] = ()
    outputs: Sequence[Path] | None = ()
    clears: Path | None = None
    recorded: bool = True


@dataclass(frozen=True)
class Outcome:
    """A stage's record, and whether it was there already."""

    stage: str
    record: Any
    skipped: bool

    @property
    def outputs(self) -> Sequence[File]:
        """The files that the stage made, relative to the manifest's folder."""
        return self.record.outputs  # type: ignore[no-any-return]

    @property
    def result(self) -> Any:
        """What the stage found, as the manifest holds it."""
        return self.record.result

    @property
    def seconds(self) -> float:
        """How long the stage took when it ran."""
        return float(self.record.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"stage": self.stage, "skipped": self.skipped, **self.record.model_dump(mode="json")}
