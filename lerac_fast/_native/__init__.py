"""The compiled module, the choice of kernels for GPUs, and what this installation is made of."""
