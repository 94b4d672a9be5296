"""A small server of KServe's v2 protocol over HTTP, strict with requests, that answers with the IRs of a repository.

It reads `config.json` as OpenVINO Model Server does. The protocol: specification/protocol/inference_rest.md in
github.com/kserve/open-inference-protocol; tensors in bytes after the JSON: kserve.github.io/website, "Binary Tensor
Data Extension".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

HEADER = "Inference-Header-Content-Length"
TYPES = {"FP32": "<f4", "UINT8": "u1", "UINT16": "<u2", "INT32": "<i4", "INT64": "<i8"}
_NAMES = {"f32": "FP32", "u8": "UINT8", "u16": "UINT16", "i32": "INT32", "i64": "INT64"}


class Refused(Exception):
    """A request that is not of the protocol, or not for the model."""


@dataclass(frozen=True)
class Served:
    """A model of the repository. `received`: the tensors that it was given, by the order of the requests."""

    name: str
    compiled: Any
    options: Mapping[str, Any]
    received: list[NDArray[Any]] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """The model's metadata: -1 for a dynamic dimension."""
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "OpenVINO",
            "inputs": [_described(port) for port in self.compiled.inputs],
            "outputs": [_described(port) for port in self.compiled.outputs],
        }

    def answer(self, length: str | None, body: bytes) -> tuple[bytes, bytes]:
        """The JSON and the bytes of the response to an inference request; Refused."""
        if length is None or not length.isdecimal() or int(length) > len(body):
            raise Refused(f"{HEADER} is {length} of a body of {len(body)} bytes")
        try:
            request = json.loads(body[: int(length)])
        except ValueError as error:
            raise Refused(f"the JSON is none: {error}") from error
        tensor = self._input(request, body[int(length) :])
        names = self._outputs(request)
        self.received.append(tensor)
        found = self.compiled(tensor)
        outputs, parts = [], []
        for port in self.compiled.outputs:
            if port.get_any_name() in names:
                values = np.ascontiguousarray(found[port])
                size = {"binary_data_size": values.nbytes}
                outputs.append({**_described(port), "shape": list(values.shape), "parameters": size})
                parts.append(values.tobytes())
        return json.dumps({"model_name": self.name, "outputs": outputs}).encode(), b"".join(parts)

    def _input(self, request: Any, data: bytes) -> NDArray[Any]:
        _check_keys("the request", request, {"inputs", "outputs"})
        (expected,) = self.described()["inputs"]
        if not isinstance(request["inputs"], list) or len(request["inputs"]) != 1:
            raise Refused("there is not one input")
        (given,) = request["inputs"]
        _check_keys("an input", given, {"name", "shape", "datatype", "parameters"})
        _check_keys("an input's parameters", given["parameters"], {"binary_data_size"})
        for key in ("name", "datatype"):
            if given[key] != expected[key]:
                raise Refused(f"the {key} is {given[key]}, not {expected[key]}")
        shape = given["shape"]
        if len(shape) != len(expected["shape"]) or any(
            side < 1 or one not in (side, -1) for side, one in zip(shape, expected["shape"])
        ):
            raise Refused(f"the shape is {shape}, not {expected['shape']}")
        size = math.prod(shape) * np.dtype(TYPES[given["datatype"]]).itemsize
        if not given["parameters"]["binary_data_size"] == size == len(data):
            sizes = f"{given['parameters']['binary_data_size']} bytes, and {len(data)} follow"
            raise Refused(f"{shape} of {given['datatype']} are {size} bytes, the request says {sizes}")
        return np.frombuffer(data, TYPES[given["datatype"]]).reshape(shape)

    def _outputs(self, request: Any) -> list[str]:
        names = [one["name"] for one in self.described()["outputs"]]
        for wanted in request["outputs"]:
            _check_keys("an output", wanted, {"name", "parameters"})
            if wanted["name"] not in names or wanted["parameters"] != {"binary_data": True}:
                raise Refused(f"no output {wanted['name']} with {wanted['parameters']}")
        return [one["name"] for one in request["outputs"]]


def _check_keys(what: str, given: Any, keys: set[str]) -> None:
    if not isinstance(given, dict) or set(given) != keys:
        raise Refused(f"{what} has not {', '.join(sorted(keys))}")


def _described(port: Any) -> dict[str, Any]:
    shape = [-1 if side.is_dynamic else side.get_length() for side in port.partial_shape]
    return {"name": port.get_any_name(), "datatype": _NAMES[port.element_type.get_type_name()], "shape": shape}


def load(repository: Path) -> dict[str, Served]:
    """The models of `config.json`, each in its shape and layout, and compiled with its options."""
    models = {}
    for entry in json.loads((repository / "config.json").read_text(encoding="utf-8"))["model_config_list"]:
        config = entry["config"]
        (xml,) = (repository / config["base_path"] / "1").glob("*.xml")
        model = openvino.Core().read_model(str(xml))
        for name, text in config["layout"].items():
            assert model.input(name).get_node().layout == openvino.Layout(text), "it would be transposed"
        model.reshape(
            {name: [int(side) for side in text.strip("()").split(",")] for name, text in config["shape"].items()}
        )
        compiled = openvino.compile_model(model, config["target_device"], config["plugin_config"])
        models[config["name"]] = Served(config["name"], compiled, config["plugin_config"])
    return models


@contextmanager
def serving(models: Mapping[str, Served]) -> Iterator[str]:
    """The address of a server for `models`: `<address>/v2/models/<name>`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = self._model("")
            if model is not None:
                self._reply(200, json.dumps(model.described()).encode())

        def do_POST(self) -> None:
            model = self._model("/infer")
            if model is None:
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                head, data = model.answer(self.headers[HEADER], body)
            except Refused as refused:
                self._reply(400, json.dumps({"error": str(refused)}).encode())
            else:
                self._reply(200, head + data, **{HEADER: str(len(head)), "Content-Type": "application/octet-stream"})

        def _model(self, end: str) -> Served | None:
            found = next((one for name, one in models.items() if self.path == f"/v2/models/{name}{end}"), None)
            if found is None:
                self._reply(404, json.dumps({"error": f"there is no {self.path}"}).encode())
            return found

        def _reply(self, code: int, body: bytes, **headers: str) -> None:
            self.send_response(code)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
