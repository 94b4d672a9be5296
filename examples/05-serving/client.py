"""Ask a server that speaks KServe's v2 protocol, such as OpenVINO Model Server, what it sees in a picture.

python client.py http://localhost:8000/v2/models/demo PICTURE LABELS.png

Needs numpy and Pillow. The picture is stretched to the model's size; the PNG's pixels are class numbers.
"""

import json
import sys
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

TYPES = {"FP32": "<f4", "UINT8": "u1", "UINT16": "<u2", "INT32": "<i4", "INT64": "<i8"}

url, picture, target = sys.argv[1:]
model = json.load(urlopen(url))
takes, label_map = model["inputs"][0], next(one for one in model["outputs"] if "INT" in one["datatype"])
shape = [abs(side) for side in takes["shape"]]  # Nx3xHxW or NxHxWx3; N is -1 where it may be any number
height, width = shape[1:3] if shape[3] == 3 else shape[2:]
rgb = np.asarray(Image.open(picture).convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
bgr = rgb[:, :, ::-1] if shape[3] == 3 else rgb[:, :, ::-1].transpose(2, 0, 1)
tensor = np.stack(shape[0] * [bgr]).astype(TYPES[takes["datatype"]])  # 0..255: mean and scale are in the IR
given = {**takes, "shape": shape, "parameters": {"binary_data_size": tensor.nbytes}}
wanted = {"name": label_map["name"], "parameters": {"binary_data": True}}
header = json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
with urlopen(Request(f"{url}/infer", header + tensor.tobytes(), headers)) as answer:
    output = json.loads(answer.read(int(answer.headers["Inference-Header-Content-Length"])))["outputs"][0]
    labels = np.frombuffer(answer.read(), TYPES[output["datatype"]]).reshape(output["shape"])
Image.fromarray(labels[0, 0].astype(np.uint8)).save(target)
