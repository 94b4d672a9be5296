"""Rewrite an IR that `to-ir` made elsewhere by Winograd's algorithm, without its ONNX: what `to-ir --winograd` does.

    python scripts/winograd_ir.py MODEL.xml TARGET.xml [--which all]

FP32 and FP16 weights stay as they are stored. Then compare: pspnet-convert verify MODEL --ir TARGET.xml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import openvino

from pspnet_convert.commands.to_ir.winograd import rewrite_convolutions
from pspnet_convert.errors import count
from pspnet_convert.runtimes.backends import read_ir
from pspnet_convert.runtimes.ir_file import save


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--which", choices=["auto", "all"], default="auto")
    asked = parser.parse_args(arguments)
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # or the target could not be the model itself
    model = read_ir(core, asked.model)
    rewritten = rewrite_convolutions(model, asked.which)
    save(model, asked.target, compress_to_fp16=False)  # FP16 weights stay FP16
    print(f"{asked.target}: {count(rewritten, 'convolution')} rewritten")


if __name__ == "__main__":
    main()
