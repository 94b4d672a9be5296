"""Run several inferences of an IR at a time, and take their answers in the order of the images."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pspnet_convert.errors import ConvertError

Given = TypeVar("Given")


def run_in_flight(compiled: Any, given: Iterable[tuple[Any, Given]]) -> Iterator[tuple[list[Any], Given]]:
    """Run a compiled model on input tensors. Each comes with a value, which is passed on with its results.

    As many inferences run as OpenVINO finds best for the device, and the next tensor is made meanwhile. The results are
    copies, one array an output. If making a tensor raises a ConvertError, the results of those before it come first.
    Raises OpenVINO's RuntimeError.
    """
    requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
    free = [compiled.create_infer_request() for _ in range(requests)]
    running: deque[tuple[Any, Given]] = deque()
    failure: ConvertError | None = None
    waiting = iter(given)
    while True:
        try:
            tensor, value = next(waiting)
        except StopIteration:
            break
        except ConvertError as error:
            failure = error
            break
        if not free:
            yield from _finished(running, free)
        request = free.pop()
        request.start_async([tensor])
        running.append((request, value))
    while running:
        yield from _finished(running, free)
    if failure is not None:
        raise failure


def _finished(running: deque[tuple[Any, Given]], free: list[Any]) -> Iterator[tuple[list[Any], Given]]:
    """The results of the inference that was started first; its request is free after them."""
    request, value = running.popleft()
    request.wait()
    yield [tensor.data.copy() for tensor in request.output_tensors], value
    free.append(request)
