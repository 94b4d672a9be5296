"""The packages whose versions change what a stage makes: with another version the stage runs again.

A name is a distribution's, or that of the package which one of several distributions provides.
"""

from __future__ import annotations

NETWORK = ("torch", "mmseg", "mmengine", "mmcv", "numpy")
EXPORT = (*NETWORK, "onnx", "onnxscript", "onnx-ir")
INT8 = ("nncf", "openvino", "numpy", "pillow")
VERIFICATION = (*NETWORK, "onnxruntime", "openvino", "pillow")
INT8_VERIFICATION = ("openvino", "numpy", "pillow")
EVALUATION = (*VERIFICATION, "cv2")
BENCHMARK = (*EXPORT, "onnxruntime", "openvino")
INT8_SEARCH = (*INT8, *(tool for tool in EVALUATION if tool not in INT8))
