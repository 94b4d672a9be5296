"""A model as its users see it: what it takes and gives, and how it is run, on PyTorch, ONNX Runtime, OpenVINO."""
