"""Whose kernels the tests of the optimizers and operators run on the CPU: its own, or those for GPUs."""

import os

from lerac_fast._native.gpu_backend import absences

TRITON_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # see conftest.py
CUDA_EMULATED = absences()["cuda"].startswith("emulated")  # see tools/cuda_emulation
KERNELS = "triton" if TRITON_INTERPRETED else "cuda" if CUDA_EMULATED else "cpu"
# Whether kernels for GPUs are to take step counts, tensor rates and loss scales for numbers that the host cannot read.
NUMBERS_ON_DEVICE = KERNELS != "cpu" and os.environ.get("LERAC_FAST_EMULATED_NUMBERS") == "device"
