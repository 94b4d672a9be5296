"""The packages whose versions change what a stage makes: with another version the stage runs again."""

from __future__ import annotations

NETWORK = ("torch", "mmsegmentation", "mmengine", "mmcv", "mmcv-lite", "numpy")
EXPORT = (*NETWORK, "onnx", "onnxscript", "onnx-ir")
INT8 = ("nncf", "openvino", "numpy", "pillow")
VERIFICATION = (*NETWORK, "onnxruntime", "openvino", "pillow")
INT8_VERIFICATION = ("openvino", "numpy", "pillow")
EVALUATION = (*VERIFICATION, "opencv-python", "opencv-python-headless")
