"""Load damaged and hostile files: each must give a model or a good error message, and nothing else.

The demo model's card (also with its network inside), a lock file, checkpoint (three formats), ONNX and IR are changed
in many ways (mutations.py) and loaded in worker processes. Fails on an exception that is no ConvertError, a case that
takes more than half a minute or a gigabyte, a worker that dies, and any code in a file that is run.

    python scripts/fuzz.py --cases 2000 --seed 0
    python scripts/fuzz.py --seed 0 --case 1234     # that case alone
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import mutations
from mutations import Mutation

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard

SECONDS = 30
_MODEL_SECONDS = 15  # for a converted model, in a process of its own
MEGABYTES = 1000
_START = 180  # seconds for a worker to import torch, mmsegmentation and the runtimes
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Seed:
    """A good file, and how it is damaged. `kind` says what loads it."""

    kind: str
    name: str
    data: bytes
    ways: Mapping[str, Mutation]


@dataclass(frozen=True)
class Result:
    """`outcome` is "loaded" or the error's class; `fault` says what was wrong, empty if nothing was."""

    number: int
    kind: str
    way: str
    outcome: str
    fault: str = ""


class Worker:
    """A process that loads files; it is started again if it has died or been killed."""

    def __init__(self, folder: Path, seeds: Sequence[Seed]) -> None:
        self._folder = folder
        self._seeds = seeds
        self._start()

    def load(self, kind: str, name: str, data: bytes) -> tuple[str, str]:
        """The outcome and what is wrong with it."""
        path = self._folder / kind / name
        path.write_bytes(data)
        self._connection.send((kind, path))
        try:
            answered = self._connection.poll(SECONDS)
            answer = self._connection.recv() if answered else ("none", f"takes more than {SECONDS} s")
        except (EOFError, ConnectionError):
            self._process.join()
            answered, answer = False, ("none", f"the process died: exit status {self._process.exitcode}")
        if not answered or answer[1]:
            self.stop()
            self._start()
        else:
            good = next(seed.data for seed in self._seeds if (seed.kind, seed.name) == (kind, name))
            path.write_bytes(good)  # the other half of an IR must be whole
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        for seed in self._seeds:
            (self._folder / seed.kind).mkdir(parents=True, exist_ok=True)
            (self._folder / seed.kind / seed.name).write_bytes(seed.data)
        self._connection, theirs = _SPAWN.Pipe()
        good = [(seed.kind, self._folder / seed.kind / seed.name) for seed in self._seeds]
        self._process = _SPAWN.Process(target=serve, args=(theirs, good), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(_START) or self._connection.recv() != "ready":
            raise SystemExit("a worker cannot load the undamaged files")


def serve(connection: Connection, good: Sequence[tuple[str, Path]]) -> None:
    """In the worker: load the undamaged files, send "ready", then send the outcome of each file that comes."""
    for kind, path in good:
        load(kind, path)
    connection.send("ready")
    before = _peak()
    while True:
        outcome, fault = attempt(*connection.recv())
        grown = _peak() - before
        connection.send((outcome, fault or (f"takes {grown:.0f} MB" if grown > MEGABYTES else "")))


def attempt(kind: str, path: Path) -> tuple[str, str]:
    from pspnet_convert.errors import ConvertError

    try:
        load(kind, path)
    except ConvertError as error:
        message = str(error)
        is_good = message and len(message) < 3000 and message.isprintable()
        return type(error).__name__, "" if is_good else f"a message that is not one short line: {message[:200]!r}"
    except BaseException:
        return "none", traceback.format_exc()
    return "loaded", ""


def load(kind: str, path: Path) -> None:
    """Load a file as `run` and `verify` do; a converted model is run on one image."""
    import numpy as np

    from pspnet_convert.cards.card import load_card
    from pspnet_convert.cards.catalog import find_card
    from pspnet_convert.cards.lock_file import pinned
    from pspnet_convert.pytorch.checkpoint import load_checkpoint
    from pspnet_convert.pytorch.network import build_network
    from pspnet_convert.runtimes.child_model import ChildModel, OpenModel, memory_for
    from pspnet_convert.worker_process import Limits

    card = find_card("demo")
    image = np.zeros((card.input.height, card.input.width, 3), np.uint8)
    if kind == "card":
        load_card(path)
    elif kind == "network":
        build_network(load_card(path), load_checkpoint(card.folder / card.checkpoint.name, card))
    elif kind == "lock":
        pinned(card, path.parent)
    elif kind in ("onnx", "ir"):
        opened = OpenModel(path if kind == "onnx" else path.with_suffix(".xml"), card, card.input.shape)
        limits = Limits(_MODEL_SECONDS, memory_for(card.checkpoint.size or 0, card.input.shape))
        with ChildModel(opened, limits) as model:
            list(model.run([image]))
    else:
        build_network(card, load_checkpoint(path, card))


def make_seeds(folder: Path, canary: Path) -> list[Seed]:
    """The demo model's files, converted into `folder` by the program itself."""
    import torch
    from mmengine.logging import MessageHub
    from safetensors.torch import save_file

    from pspnet_convert.cards.catalog import built_in, find_card
    from pspnet_convert.cards.lock_file import LOCK_FILE
    from pspnet_convert.cli import cli

    with redirect_stdout(io.StringIO()):
        for command in (["download"], ["export-onnx"], ["to-ir", "--precision", "FP32"]):
            cli([*command, "demo", "-o", str(folder)], standalone_mode=False)
    made = folder / "public" / "demo"
    card = find_card("demo")
    content = torch.load(made / card.checkpoint.name, weights_only=True)
    hub = MessageHub("fuzz")
    hub.update_scalar("train/loss", 1.0)
    torch.save({**content, "message_hub": hub.state_dict()}, folder / "zip.pth")
    torch.save(content, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    texts = {"classes": json.dumps(card.class_names)}
    save_file(dict(content["state_dict"]), folder / "demo.safetensors", metadata=texts)
    files = {
        ("card", "model.yml"): built_in()["demo"],
        ("card", "full.yml"): built_in()["pspnet-pytorch"],
        ("network", "own.yml"): _own_card(card, folder),
        ("lock", LOCK_FILE): _lock_file(card, folder),
        ("zip", "zip.pth"): folder / "zip.pth",
        ("legacy", "legacy.pth"): folder / "legacy.pth",
        ("safetensors", "demo.safetensors"): folder / "demo.safetensors",
        ("onnx", "demo.onnx"): made / "demo.onnx",
        ("ir", "demo.xml"): made / "FP32" / "demo.xml",
        ("ir", "demo.bin"): made / "FP32" / "demo.bin",
    }
    contents = {key: path.read_bytes() for key, path in files.items()}
    anywhere: dict[str, Mutation] = {
        "flip bits": mutations.flip_bits,
        "truncate": mutations.truncate,
        "repeat": mutations.repeat_chunk,
        "splice": mutations.splicing(list(contents.values())),
    }
    by_suffix: dict[str, dict[str, Mutation]] = {
        ".yml": {"edit YAML": mutations.edit_yaml, "edit text": mutations.edit_text},
        ".pth": {"edit pickle": mutations.pickling(canary)},
        ".onnx": {"edit ONNX": mutations.edit_onnx, "slow ONNX": mutations.slow_onnx},
        ".xml": {"edit text": mutations.edit_text},
        ".lock": {"edit text": mutations.edit_text},
    }
    return [
        Seed(kind, name, data, {**anywhere, **by_suffix.get(Path(name).suffix, {})})
        for (kind, name), data in contents.items()
    ]


def _own_card(card: ModelCard, folder: Path) -> Path:
    """A card of the demo as a user's own model: the network is in the card."""
    import mmseg
    from mmengine.config import Config

    from pspnet_convert.cards.card_yaml import as_yaml
    from pspnet_convert.cards.own_model import own_card
    from pspnet_convert.pytorch.read_metadata import read_metadata

    config = Config.fromfile(Path(mmseg.__file__).parent / ".mim" / "configs" / str(card.config))
    config.merge_from_dict(card.config_overrides)
    (folder / "own.py").write_text(config.pretty_text)
    checkpoint = card.folder / card.checkpoint.name
    own = own_card(folder / "own.py", checkpoint, read_metadata)
    (folder / "own.yml").write_text(as_yaml(own.model_dump(mode="json", exclude_none=True)))
    return folder / "own.yml"


def _lock_file(card: ModelCard, folder: Path) -> Path:
    from pspnet_convert.cards.lock_file import LOCK_FILE, write_pin

    file = card.checkpoint
    write_pin(card, folder, str(file.sha256), file.size or 0)
    return folder / LOCK_FILE


def run_cases(seeds: Sequence[Seed], numbers: Sequence[int], seed: int, folder: Path, canary: Path) -> list[Result]:
    """Run the cases of these numbers in two workers. A number is the same case for the same `seed`."""

    def share(which: int) -> list[Result]:
        worker = Worker(folder / f"worker-{which}", seeds)
        try:
            return [_run_case(worker, seeds, number, seed, canary) for number in numbers[which::2]]
        finally:
            worker.stop()

    with ThreadPoolExecutor(2) as threads:
        results = [result for share_of in threads.map(share, range(min(2, len(numbers)))) for result in share_of]
    return sorted(results, key=lambda result: result.number)


def _run_case(worker: Worker, seeds: Sequence[Seed], number: int, seed: int, canary: Path) -> Result:
    random = Random(f"{seed}:{number}")
    chosen = random.choice(seeds)
    way = random.choice(list(chosen.ways))
    outcome, fault = worker.load(chosen.kind, chosen.name, chosen.ways[way](random, chosen.data))
    if canary.exists():
        canary.unlink()
        fault = "code in the file was run"
    return Result(number, chosen.kind, way, outcome, fault)


def table(results: Sequence[Result]) -> str:
    """Outcomes by kind of file and way of damage."""
    outcomes = sorted({result.outcome for result in results})
    counts = Counter((result.kind, result.way, result.outcome) for result in results)
    lines = [f"{'file':8} {'damage':12} {'cases':>6}" + "".join(f"{outcome:>16}" for outcome in outcomes)]
    for kind, way in sorted({(result.kind, result.way) for result in results}):
        each = [counts[kind, way, outcome] for outcome in outcomes]
        lines.append(f"{kind:8} {way:12} {sum(each):6}" + "".join(f"{count or '':>16}" for count in each))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--case", type=int, help="only the case of this number")
    arguments = parser.parse_args()
    numbers = range(arguments.cases) if arguments.case is None else [arguments.case]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        canary = folder / "canary"
        results = run_cases(make_seeds(folder, canary), numbers, arguments.seed, folder, canary)
    faults = [result for result in results if result.fault]
    for result in faults:
        print(f"case {result.number}, {result.kind}, {result.way}: {result.fault}", file=sys.stderr)
    print(table(results))
    print(f"{len(results)} cases, {len(faults)} faults")
    sys.exit(1 if faults else 0)


def _peak() -> float:
    """The process's peak memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
