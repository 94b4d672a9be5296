"""What an IR sees in a picture, without pspnet-convert: python serve.py MODEL.xml PICTURE LABELS.png

Needs openvino, numpy and Pillow. The picture is stretched to the model's size; the PNG's pixels are class numbers.
"""

import sys

import numpy as np
import openvino
from PIL import Image

xml, picture, target = sys.argv[1:]
model = openvino.Core().read_model(xml)
classes = model.get_rt_info(["model_info", "labels"]).astype(str).split()
compiled = openvino.compile_model(model, "CPU")

_, _, height, width = compiled.input(0).shape
rgb = np.asarray(Image.open(picture).convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
bgr = rgb[:, :, ::-1]
image = bgr.transpose(2, 0, 1)[None].astype(np.float32)  # 1x3xHxW, 0..255: mean and scale are in the IR

labels = compiled(image)[0][0, 0]
Image.fromarray(labels.astype(np.uint8)).save(target)
for number, pixels in enumerate(np.bincount(labels.ravel(), minlength=len(classes))):
    if pixels:
        print(f"{classes[number]} {pixels / labels.size:.1%}")
