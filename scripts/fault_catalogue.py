"""Check that verification catches faults, and passes what is right.

The faults are those of faults.py and input_faults.py, one at a time. The right conversions are of networks with random
weights, sizes, bins, batches and input forms.

    python scripts/fault_catalogue.py                 # the demo model's faults, finer ones, 50 right conversions
    python scripts/fault_catalogue.py --model standin # another folder with a model.yml and its checkpoint
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from fault_causes import expected_of
from faults import Fault, all_faults, finer_faults, make
from input_faults import BATCH, FORM, input_faults
from make_standin_checkpoint import make_standin
from rich.console import Console
from rich.table import Table
from torch.nn.modules.batchnorm import _BatchNorm

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.export_onnx.write_onnx import write_onnx, write_plain_onnx
from pspnet_convert.commands.to_ir.front_ends import find_front_end
from pspnet_convert.commands.verify.answers import Answers, answers_of
from pspnet_convert.commands.verify.candidates import Candidate, candidates
from pspnet_convert.commands.verify.checks import drawn_for
from pspnet_convert.commands.verify.compare import compare_with_reference
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.commands.verify.explain import Reference, explain
from pspnet_convert.commands.verify.inputs import VerificationInput, verification_inputs
from pspnet_convert.commands.verify.reference import expect
from pspnet_convert.errors import ArtifactError
from pspnet_convert.image_shape import DYNAMIC, ImageShape
from pspnet_convert.manifest_fields import Explanation
from pspnet_convert.package_versions import versions
from pspnet_convert.pytorch.batchnorm import sharing_copy
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import PSPNet, build_network
from pspnet_convert.runtimes.input_form import PLAIN, InputForm
from pspnet_convert.runtimes.model_file import ModelFile

PRECISIONS = {"ONNX": "f32", "IR FP32": "f32", "IR FP16": "FP16"}


@dataclass(frozen=True)
class Caught:
    """A fault, and the checks that caught it, each with its first message; empty if none did.

    `explanation`: its cause, or the first wrong layer; None where the check `contract` says what is wrong.
    """

    fault: Fault
    by: dict[str, str]
    explanation: Explanation | None = None

    @property
    def naming(self) -> str:
        """Whether the cause or the layer is the right one: see Expected.judge."""
        return expected_of(self.fault.name).judge(self.explanation, self.by)


def network_of(card: ModelCard) -> PSPNet:
    return build_network(card, load_checkpoint(card.folder / card.checkpoint.name, card))


def catalogue(card: ModelCard, folder: Path) -> Iterator[Caught]:
    """Make each fault in `folder` and verify it; yields the results. The right files must pass first."""
    network = network_of(card)
    right, other, auxiliary, eps = (folder / f"{name}.onnx" for name in ("right", "other", "auxiliary", "eps"))
    options = ExportOptions(card.input.shape)
    write_onnx(network, card, right, options, {"name": card.name})
    write_onnx(
        network_of(load_card(make_standin(card, folder / "other", seed=99))), card, other, options, {"name": "o"}
    )
    write_plain_onnx(with_auxiliary_head(network), card, auxiliary)
    write_onnx(with_eps(network, 1e-3), card, eps, options, {"name": card.name})
    yield from _each(all_faults(card, other, auxiliary, eps), network, card, right, card.input.shape, PLAIN)
    of_image = card.input.shape[1:]
    of_three, of_any = (folder / f"{name}.onnx" for name in ("three", "any"))
    for path, batch in ((of_three, BATCH), (of_any, DYNAMIC)):
        write_onnx(network, card, path, ExportOptions((1, *of_image), batch), {"name": card.name})
    faults = input_faults(card, of_one=right, of_any=of_any)
    yield from _each(faults, network, card, of_three, (BATCH, *of_image), FORM)


def finer_catalogue(card: ModelCard, folder: Path) -> Iterator[Caught]:
    """As `catalogue`, with faults at a tenth of the size. Not all need be caught."""
    network, right = network_of(card), folder / "right.onnx"
    write_onnx(network, card, right, ExportOptions(card.input.shape), {"name": card.name})
    yield from _each(finer_faults(card), network, card, right, card.input.shape, PLAIN)


def _each(
    faults: Sequence[Fault], network: PSPNet, card: ModelCard, right: Path, shape: ImageShape, form: InputForm
) -> Iterator[Caught]:
    inputs = verification_inputs(card, shape)
    expected = expect(network, card, inputs, right.parent, lambda: None, conversion=this_conversion())

    def compare(fault: Fault) -> Caught:
        path = make(fault, card, right, right.parent, form)
        file = ModelFile(fault.file, path, PRECISIONS[fault.file])  # type: ignore[arg-type]
        compared = candidates([file], card, shape, form)
        answered = answer(compared, card, inputs, right.parent)
        result = compare_with_reference(expected, answered, inputs, len(card.classes))
        assert not result.doubts, result.doubts
        ((candidate, answers),), (comparison,) = answered, result.comparisons
        found = {check: words[0] for check, words in comparison.faults.items()}
        if isinstance(answers, ArtifactError):
            return Caught(fault, found)
        return Caught(fault, found, explain(reference, candidate, answers, comparison, right.parent))

    drawn = drawn_for((len(card.classes), *shape[2:]), network.decision_score)
    exported = ExportOptions(card.input.shape, shape[0])
    reference = Reference(network, card, inputs, expected, drawn, this_conversion(), exported)
    for file in PRECISIONS:
        none = compare(Fault("none", file))
        assert not none.by, f"the right {file} is refused: {none.by}"
        assert none.explanation is not None
        assert none.explanation.cause is None, f"the right {file} is accused: {none.explanation.words}"
        assert none.explanation.layer is None, f"the right {file} is accused: {none.explanation.words}"
    for fault in faults:
        yield compare(fault)


def answer(
    compared: Sequence[Candidate], card: ModelCard, inputs: Sequence[VerificationInput], folder: Path
) -> list[tuple[Candidate, Answers | ArtifactError]]:
    """The candidates' answers, from this process: `verify` starts a process for each. Logits are kept in `folder`."""
    images = [entry.image for entry in inputs]
    drawn = drawn_for((len(card.classes), *images[0].shape[:2]), None)
    found: list[tuple[Candidate, Answers | ArtifactError]] = []
    for candidate in compared:
        kept = Path(tempfile.mkdtemp(dir=folder)) / "logits"
        try:
            made = answers_of(candidate.model.open(), images, lambda: drawn, kept)
        except ArtifactError as error:
            found.append((candidate, error))
        else:
            found.append((candidate, replace(made, precision=candidate.claims or "f32")))
    return found


def this_conversion() -> Conversion:
    """How `make` converts."""
    return Conversion(True, find_front_end("auto", {}).name, versions("openvino")["openvino"])


def with_auxiliary_head(network: PSPNet) -> PSPNet:
    """A copy with mmsegmentation's FCNHead (random weights), which takes the map before the last, as its head."""
    from mmseg.models.decode_heads import FCNHead

    torch.manual_seed(0)
    main = network.decode_head
    maps = network.backbone.layer3[-1].conv2.out_channels
    if hasattr(network.backbone.layer3[-1], "conv3"):  # a bottleneck block widens its map last
        maps = network.backbone.layer3[-1].conv3.out_channels
    head = FCNHead(
        in_channels=maps, in_index=2, channels=8, num_convs=1, concat_input=False, num_classes=main.num_classes,
        norm_cfg={"type": "BN"}, align_corners=main.align_corners,
    )  # fmt: skip
    changed = sharing_copy(network)
    changed.decode_head = head.eval()
    return changed.requires_grad_(False)


def with_eps(network: PSPNet, eps: float) -> PSPNet:
    changed = sharing_copy(network)
    for module in changed.modules():
        if isinstance(module, _BatchNorm):
            module.eps = eps
    return changed


def right_conversions(count: int, seed: int, folder: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Convert networks of random weights, widths, image sizes, bins and input forms as the tool does.

    Yields each one's description, and the faults that verification finds: there should be none.
    """
    chance = random.Random(seed)
    for number in range(count):
        place = folder / str(number)
        card = random_card(chance, place, number)
        onnx_path = place / "right.onnx"
        network = network_of(card)
        batch, form = chance.choice([1, 2, 5, DYNAMIC]), random_form(chance)
        shape = (batch, *card.input.shape[1:])
        write_onnx(network, card, onnx_path, ExportOptions(card.input.shape, batch), {"name": card.name})
        files = [
            ModelFile(file, make(Fault("none", file), card, onnx_path, _made(place / file), form), PRECISIONS[file])  # type: ignore[arg-type]
            for file in PRECISIONS
        ]
        inputs = verification_inputs(card, shape)
        result = compare_with_reference(
            expect(network, card, inputs, place, lambda: None, conversion=this_conversion()),
            answer(candidates(files, card, shape, form), card, inputs, place),
            inputs,
            len(card.classes),
        )
        found = {f"{c.backend} {check}": words for c in result.comparisons for check, words in c.faults.items()}
        found.update({"doubts": result.doubts} if result.doubts else {})
        bins = card.config_overrides["model.decode_head.pool_scales"]
        images = f"{form.type} {list(form.ordered(shape))}"
        yield f"{number}: {images}, bins {bins}, {len(card.classes)} classes", found


def random_form(chance: random.Random) -> InputForm:
    return InputForm(chance.choice(["f32", "u8"]), chance.choice(["NCHW", "NHWC"]))  # type: ignore[arg-type]


def random_card(chance: random.Random, folder: Path, seed: int) -> ModelCard:
    """A ResNet-18 PSPNet with random weights; its card and checkpoint are in `folder`."""
    width, classes = chance.choice([8, 12, 16]), chance.randint(2, 21)
    height, breadth = (chance.randint(48, 150) for _ in range(2))
    full = find_card()
    data = full.model_dump(mode="json", exclude_none=True)
    data.update(
        config="pspnet/pspnet_r18-d8_4xb4-80k_potsdam-512x512.py",
        config_overrides={
            "model.backbone.base_channels": width,
            "model.backbone.stem_channels": width,
            "model.decode_head.in_channels": 8 * width,
            "model.decode_head.channels": chance.choice([8, 16, 24]),
            "model.decode_head.num_classes": classes,
            "model.decode_head.pool_scales": chance.sample(range(1, 9), chance.randint(1, 4)),
            "model.decode_head.align_corners": chance.random() < 0.3,
            "model.auxiliary_head.in_channels": 4 * width,
            "model.auxiliary_head.num_classes": classes,
        },
        classes=data["classes"][:classes],
    )
    data["input"]["shape"] = [1, 3, height, breadth]
    data["output"].update(shape=[1, 1, height, breadth], values=[0, classes - 1])
    return load_card(make_standin(ModelCard.model_validate(data), folder, seed=seed))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def table(results: Sequence[Caught]) -> Table:
    made = Table("fault", "in", "caught by", "in its words", "named", "cause", "layer")
    for result in results:
        words = next(iter(result.by.values()), "").rpartition("/")[2]  # without the temporary folder
        cause, layer = "", ""
        if result.explanation is not None:
            cause = result.explanation.cause.what if result.explanation.cause else ""
            layer = result.explanation.layer.layer if result.explanation.layer else ""
        caught_by = ", ".join(result.by) or "NOT CAUGHT"
        made.add_row(result.fault.name, result.fault.file, caught_by, words[:70], result.naming, cause, layer)
    return made


def names_in_words(results: Sequence[Caught]) -> str:
    """How many causes or layers are right, wrong or not named."""
    of = Counter(result.naming for result in results)
    return f"causes and layers: {of['right']} right, {of['WRONG']} wrong, {of['none']} not named"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="demo", help="a model with its checkpoint in its card's folder (%(default)s)"
    )
    parser.add_argument("--right", type=int, default=50, help="right conversions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["CI"] = "true"  # Model Optimizer's telemetry sends nothing then
    with tempfile.TemporaryDirectory() as folder:
        results = list(catalogue(find_card(arguments.model), Path(folder)))
        Console(width=160 if not sys.stdout.isatty() else None).print(table(results))
        missed = [result.fault for result in results if not result.by]
        print(f"{len(results) - len(missed)} of {len(results)} faults caught")
        print(names_in_words(results))
        finer = list(finer_catalogue(find_card(arguments.model), Path(folder)))
        Console(width=160 if not sys.stdout.isatty() else None).print(table(finer))
        print(f"{sum(bool(result.by) for result in finer)} of {len(finer)} faults at a tenth of the size caught")
        refused = 0
        for name, found in right_conversions(arguments.right, arguments.seed, Path(folder) / "right"):
            refused += bool(found)
            print(f"right {name}: {'REFUSED ' + str(found) if found else 'pass'}", flush=True)
        print(f"{arguments.right - refused} of {arguments.right} right conversions pass")
    sys.exit(1 if missed or refused else 0)


if __name__ == "__main__":
    main()
