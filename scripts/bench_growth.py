"""How time, memory and file of the folded IR grow with the image, the batch and the cores: a table in Markdown.

    python scripts/bench_growth.py MODEL CHECKPOINT [--rounds N]

Each line is a `pspnet-convert benchmark --graph folded` of its own. Times of different lines compare on an idle machine
alone: the column `others` says how much of the processors' time other programs took.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pspnet_convert import benchmark
from pspnet_convert.tables import precision_words

SIZES = ((256, 256), (512, 512), (512, 1024), (1024, 1024), (1024, 2048))
BATCHES = (2, 4, 8)
HEADINGS = (
    "image",
    "batch",
    "cores",
    "at",
    "ms an image",
    "GFLOP",
    "GFLOP/s",
    "of limit",
    "peak MB",
    "file MB",
    "others",
)


def lines(model: str, checkpoint: Path, shape: tuple[int, int], batch: int, cores: int, rounds: int) -> list[str]:
    """Two lines: the FP32 IR at f32 and at the default precision. `shape`: height and width."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(usable)[:cores]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = benchmark(
                model,
                checkpoint=checkpoint,
                output_dir=Path(folder),
                graph="folded",
                input_shape=(1, 3, *shape),
                batch=batch,
                rounds=rounds,
            )
    finally:
        os.sched_setaffinity(0, usable)
    rows = [row for row in found.timings if row.runtime == "IR" and row.weights == "FP32"]
    return [
        _line(
            "x".join(map(str, shape)),
            batch,
            cores,
            precision_words(row.at, row.precision),
            f"{row.median_ms / batch:.1f}",
            f"{row.gflops / batch:.1f}",
            f"{row.gflops_per_second:.0f}",
            f"{row.share:.0%}",
            f"{row.peak_memory_mb:.0f}",
            f"{row.file_mb:.1f}",
            "" if found.others is None else f"{found.others:.0%}",
        )
        for row in rows
    ]


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smallest", action="store_true", help="the smallest image alone")
    given = parser.parse_args(arguments)
    all_cores = len(os.sched_getaffinity(0))
    cases = [(size, 1, all_cores) for size in (SIZES[:1] if given.smallest else SIZES)]
    if not given.smallest:
        cases += [(SIZES[0], batch, all_cores) for batch in BATCHES]
        cases += [(SIZES[1], 1, cores) for cores in range(1, all_cores)]
    print(_line(*HEADINGS))
    print(_line(*["---"] * 4, *["---:"] * (len(HEADINGS) - 4)))
    for shape, batch, cores in cases:
        for line in lines(given.model, given.checkpoint, shape, batch, cores, given.rounds):
            print(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
