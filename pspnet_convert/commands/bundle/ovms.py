"""Arrange a bundle as a model repository of OpenVINO Model Server: `config.json`, `<name>/1/<name>.xml`, `.bin`.

The form of `config.json` is that of Model Server's documentation (docs/parameters.md, docs/models_repository_classic.md
and docs/shape_batch_size_and_layout.md in github.com/openvinotoolkit/model_server).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.backends import read_ir
from pspnet_convert.runtimes.io_signature import ir_signature
from pspnet_convert.runtimes.openvino_install import require_openvino
from pspnet_convert.runtimes.precision_hint import compile_hints
from pspnet_convert.workspace import INT8, Workspace, ir_files

FOLDER = "models"  # of the archive: what the server is given
_VERSION = "1"
_BY_DEFAULT = ("FP16", "FP32")  # the first that is there: FP16 has half the bytes, INT8 other answers
_CONFIG = "config.json"
Content = TypeVar("Content")


def serve_one_ir(
    workspace: Workspace, contents: Mapping[str, Content], precision: str | None
) -> tuple[str, dict[str, Content]]:
    """The IR's precision, and the files of the model's folder with that IR as version 1, without the others.

    `contents`: the files by their names in the model's folder. Raises ArtifactError where it has no IR of `precision`.
    """
    irs = [one for one in (*_BY_DEFAULT, INT8) if f"{one}/{workspace.name}.xml" in contents]
    chosen = _chosen(workspace, irs, precision)
    return chosen, _with_one_ir(workspace.name, contents, irs, chosen)


def model_repository(
    workspace: Workspace, served: str, contents: Mapping[str, Content | bytes]
) -> dict[str, Content | bytes]:
    """The files by their names in FOLDER: those of the model's folder, and `config.json`, for the IR `served`."""
    config = json.dumps(server_config(workspace.name, workspace.ir(served)), indent=2) + "\n"
    return {_CONFIG: config.encode(), **{f"{workspace.name}/{file}": content for file, content in contents.items()}}


def _with_one_ir(name: str, contents: Mapping[str, Content], irs: Sequence[str], chosen: str) -> dict[str, Content]:
    places = {file.as_posix(): file for one in irs for file in ir_files(Path(one) / f"{name}.xml")}
    return {
        f"{_VERSION}/{places[file].name}" if file in places else file: content
        for file, content in contents.items()
        if file not in places or places[file].parent.name == chosen
    }


def _chosen(workspace: Workspace, there: Sequence[str], precision: str | None) -> str:
    if precision is None:
        precision = next((one for one in _BY_DEFAULT if one in there), _BY_DEFAULT[0])
    if precision not in there:
        command = "quantize" if precision == INT8 else "run"
        raise ArtifactError(
            f"{workspace.folder}: has no {precision} IR, only {' and '.join(there)}",
            f"Run `pspnet-convert {command}`, or say another --precision.",
        )
    return precision


def server_config(name: str, xml: Path) -> dict[str, Any]:
    """What `config.json` says of the IR: its input's shape (-1: any number of images) and layout, and the CPU options.

    The IR computes in float32 where its metadata says so, else as the server's processor prefers.
    """
    require_openvino()
    import openvino

    model = read_ir(openvino.Core(), xml)
    inputs, _ = ir_signature(model)
    return {
        "model_config_list": [
            {
                "config": {
                    "name": name,
                    "base_path": name,  # relative to config.json
                    "target_device": "CPU",  # where the IR was verified
                    "layout": {min(one.names): one.layout for one in inputs if one.layout},
                    "shape": {min(one.names): f"({','.join(map(str, one.shape))})" for one in inputs},
                    "plugin_config": {
                        "PERFORMANCE_HINT": "LATENCY",
                        **compile_hints(model, at_default_precision=True),
                    },
                }
            }
        ]
    }
