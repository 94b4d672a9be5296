"""Compare wall time and peak memory of `pspnet-convert run` with the other way to an IR, in turns.

The other way is a plain `torch.onnx.export` of the same network, then the `mo` command twice (FP32 and FP16), and
no verification. Both start from a checkpoint on the disk, by default the full-size stand-in, which is made first:

    python scripts/bench_pipeline.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pspnet_convert.cards.card import ModelCard, load_card

STAGES = ("export-onnx", "to-ir", "verify")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time, and megabytes of the largest process."""

    seconds: float
    megabytes: float


def cost_of(*command: object) -> Cost:
    """Run the command to its end; SystemExit if it fails."""
    start = os.times().elapsed
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    messages = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed:\n{messages}")
    return Cost(os.times().elapsed - start, usage.ru_maxrss / 1000)


def ours(card: Path, folder: Path) -> dict[str, Cost]:
    """The stages, with their durations from the manifest, and the whole command."""
    whole = cost_of(sys.executable, "-m", "pspnet_convert", "run", card, "-o", folder)
    (manifest,) = folder.rglob("manifest.json")
    stages = json.loads(manifest.read_text())["stages"]
    return {**{f"  {name}": Cost(stages[name]["seconds"], 0) for name in STAGES}, "pspnet-convert run": whole}


def theirs(card_path: Path, folder: Path) -> dict[str, Cost]:
    onnx = folder / "model.onnx"
    costs = {"  torch.onnx.export": cost_of(sys.executable, __file__, "--export", card_path, onnx)}
    model = load_card(card_path).input
    for precision, compress in (("FP32", False), ("FP16", True)):
        costs[f"  mo {precision}"] = cost_of(
            Path(sys.executable).with_name("mo"),
            *("--input_model", onnx, "--output_dir", folder / precision, "--model_name", "model"),
            *("--input", model.name, "--layout", f"{model.name}(NCHW)", "--reverse_input_channels"),
            f"--mean_values={model.name}[{','.join(map(str, model.mean))}]",
            f"--scale_values={model.name}[{','.join(map(str, model.scale))}]",
            *("--output", load_card(card_path).output.name, f"--compress_to_fp16={compress}"),
        )
    whole = Cost(sum(cost.seconds for cost in costs.values()), max(cost.megabytes for cost in costs.values()))
    return {**costs, "the other way": whole}


def export_plainly(card: ModelCard, target: Path) -> None:
    """What a user's script would do: mmsegmentation's network as it is, argmax on top, torch's exporter."""
    import torch

    from pspnet_convert.pytorch.checkpoint import load_checkpoint
    from pspnet_convert.pytorch.network import PSPNet, build_segmentor, load_weights

    network = PSPNet(build_segmentor(card.config, card.config_overrides))
    load_weights(network, load_checkpoint(card.folder / card.checkpoint.name, card))

    class Labels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.network(image).argmax(dim=1, keepdim=True)

    program = torch.onnx.export(
        Labels().eval(), (torch.zeros(card.input.shape),), dynamo=True, input_names=[card.input.name],
        output_names=[card.output.name],
    )  # fmt: skip
    assert program is not None
    program.save(str(target), external_data=False)


def compare(card: Path, rounds: int) -> None:
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ours").mkdir()
            # The checkpoint is there already, as after `download`.
            name = load_card(card).name
            place = Path(folder) / "ours" / "public" / name
            place.mkdir(parents=True)
            shutil.copy(card.parent / load_card(card).checkpoint.name, place)
            for key, cost in {**ours(card, Path(folder) / "ours"), **theirs(card, Path(folder))}.items():
                costs.setdefault(key, []).append(cost)
    print(f"{'':24}{'seconds':>9}{'peak MB':>9}    medians of {rounds} rounds in turns")
    for key, each in costs.items():
        peak = max(cost.megabytes for cost in each)
        print(f"{key:24}{median(cost.seconds for cost in each):9.1f}{f'{peak:9.0f}' if peak else '':>9}")
    ratios = [a.seconds / b.seconds for a, b in zip(costs["pspnet-convert run"], costs["the other way"])]
    print(f"run takes {median(ratios):.2f} of the other way's time, verification included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--card", type=Path, help="a model.yml with its checkpoint in the same folder (default: a stand-in)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--export", nargs=2, type=Path, metavar=("CARD", "ONNX"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export_plainly(load_card(arguments.export[0]), arguments.export[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        card = arguments.card
        if card is None:
            from make_standin_checkpoint import make_standin

            from pspnet_convert.cards.catalog import find_card

            card = make_standin(find_card(), Path(folder))
        compare(card, arguments.rounds)


if __name__ == "__main__":
    main()
