"""From ONNX to IR, by Model Optimizer or ovc."""
