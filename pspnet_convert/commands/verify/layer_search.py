"""Find the first step of a model that goes wrong, reading a bounded number of its tensors at a time.

A step is wrong by itself: the right step, given the model's own inputs to it, gives something else. So an error that an
earlier step made is not counted again, and no tolerance need grow with depth. The first look is at as many tensors as a
group may hold, spread over the network; the next ones are at the tensors inside the first wrong step, until that step
has none inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.right_graph import OwnError, RightGraph, Step
from pspnet_convert.runtimes.layer_taps import LayerTaps, Values

GROUP = 256 * 2**20  # bytes of the tensors that one run keeps
_MOST = 6  # tensors that a front-end merges into one step; a step of more is of a model with other names
_SURE = 4  # times what is allowed: a step of many layers is only accused of more


@dataclass(frozen=True)
class WrongStep:
    """A step that is wrong by itself. `tensor`: the model's name of what should be the step's target, mostly the same.
    `values`: the model's tensors at its ends, and the normalised image.

    `vanishes`: whether none of the tensors inside it is wrong once they are read, so that the runtime fuses them
    differently.
    """

    step: Step
    tensor: str
    own: OwnError
    values: Values
    vanishes: bool = False


@dataclass(frozen=True)
class LayerSearch:
    """The search of `found`, a model that takes `given`, for steps that are not those of `right`, which takes `image`.

    `group`: bytes of tensors that one run of the model may keep; of a single tensor that is larger, one.
    """

    right: RightGraph
    found: LayerTaps
    given: NDArray[np.generic]
    image: NDArray[np.float32]
    group: int = GROUP

    def first_wrong(self) -> WrongStep | None:
        """None if each step is right by itself."""
        names = [name for name in self.right.layers if name in self.right.sizes or name == self.right.output]
        return self._first_wrong([name for name in names if name in self.found.layers], [])

    def wrong_logits(self) -> WrongStep | None:
        """The last step before the argmax, if the argmax takes other logits than that step should make."""
        if self.found.logits is None:
            return None
        shared = [name for name in self.right.layers if name in self.found.layers and name != self.right.logits]
        step = self.right.step(shared, self.right.logits)
        return self._alone(step, self.found.logits) if _is_one_layer(step) else None

    def again(self, wrong: WrongStep) -> WrongStep | None:
        """`wrong` once more, with no tensors read but those at its ends; None if it is right then."""
        once_more = self._alone(wrong.step, wrong.tensor)
        return once_more and replace(once_more, vanishes=wrong.vanishes)

    def _alone(self, step: Step, tensor: str) -> WrongStep | None:
        values = self._values([*step.inputs, tensor])
        values[step.target] = values[tensor]
        own = self.right.own_error(step, values)
        return WrongStep(step, tensor, own, values) if own.is_wrong else None

    def _first_wrong(self, names: Sequence[str], ends: Sequence[str]) -> WrongStep | None:
        """The first wrong step to one of `names`, which are in the order of execution and begin after `ends`."""
        chosen = spread(names, self.right.sizes, self.group)
        known = [*ends, *chosen]
        values = self._values(known)
        for name in chosen:
            step = self.right.step(known, name)
            own = self.right.own_error(step, values)
            if not own.is_wrong:
                continue
            at_ends = {end: values[end] for end in [*step.inputs, name]}
            inside = [one for one in names if one in set(step.tensors) - {name}]
            if not inside:
                return WrongStep(step, name, own, at_ends) if _is_one_layer(step) else None
            deeper = self._first_wrong([*inside, name], step.inputs)
            if deeper is not None:
                return deeper
            if own.error.rms > _SURE * own.allowed.rms:
                return WrongStep(step, name, own, at_ends, vanishes=True)
        return None

    def _values(self, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        wanted = [name for name in dict.fromkeys(names) if name != self.right.image]
        return {**self.found.run(wanted, self.given), self.right.image: self.image}


def _is_one_layer(step: Step) -> bool:
    return len(step.tensors) <= _MOST


def spread(names: Sequence[str], sizes: Mapping[str, int], group: int) -> list[str]:
    """Of `names`, as many as fit into `group` bytes, evenly spread; always the last one, and one before it if any."""
    total = sum(sizes.get(name, 0) for name in names)
    parts = max(1, -(-total // group))
    chosen, passed = [], 0
    for name in names:
        passed += sizes.get(name, 0)
        if passed >= parts * sizes.get(name, 0):
            chosen.append(name)
            passed = 0
    before = [name for name in chosen if name != names[-1]] or list(names[(len(names) - 1) // 2 : -1][:1])
    return [*before, *names[-1:]]
