"""Functions on tensors with compiled kernels."""
