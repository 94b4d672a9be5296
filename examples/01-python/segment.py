"""What an IR sees in a picture, without pspnet-convert: python segment.py MODEL.xml PICTURE LABELS.png

Needs openvino, numpy and Pillow. The picture is stretched to the model's size; the PNG's pixels are class numbers.
"""

import sys

import numpy as np
import openvino
from PIL import Image

xml, picture, target = sys.argv[1:]
model = openvino.Core().read_model(xml)
classes = model.get_rt_info(["model_info", "labels"]).astype(str).split()
hint = ["runtime_options", "INFERENCE_PRECISION_HINT"]  # f32 in an IR that `to-ir --winograd` made
options = {hint[1]: model.get_rt_info(hint).astype(str)} if model.has_rt_info(hint) else {}
compiled = openvino.compile_model(model, "CPU", options)

takes = compiled.input(0)
(label_map,) = (output for output in compiled.outputs if output.element_type.is_integral())
shape = takes.partial_shape  # Nx3xHxW or NxHxWx3
is_nhwc = shape[3] == openvino.Dimension(3)
height, width = (shape[axis].get_length() for axis in ((1, 2) if is_nhwc else (2, 3)))
photo = Image.open(picture).convert("RGB")
for size in ((width, photo.height), (width, height)):  # releases of Pillow differ in which side they scale first
    photo = photo.resize(size, Image.Resampling.BILINEAR)
bgr = np.asarray(photo)[:, :, ::-1]
image = bgr if is_nhwc else bgr.transpose(2, 0, 1)
slots = shape[0].get_length() if shape[0].is_static else 1  # all for the one picture here
given = np.stack(slots * [image]).astype(takes.element_type.to_dtype())  # 0..255: mean and scale are in the IR

labels = compiled(given)[label_map][0, 0]
Image.fromarray(labels.astype(np.uint8)).save(target)
for number, pixels in enumerate(np.bincount(labels.ravel(), minlength=len(classes))):
    if pixels:
        print(f"{classes[number]} {pixels / labels.size:.1%}")
