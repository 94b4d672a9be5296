"""From the network to one ONNX file, its pyramid head folded."""
