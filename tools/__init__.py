"""What inspects and emulates the kernels for GPUs, without one."""
