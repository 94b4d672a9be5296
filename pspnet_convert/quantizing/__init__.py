"""From the FP32 IR to INT8, and whether the two agree."""
