"""On what machine, and with what software, results were obtained."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lerac_fast import build_info

PACKAGES = ("lerac_fast", "torch", "torchvision", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """The machine, the versions of what matters to the results, and the build of lerac_fast."""
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "build": build_info(),
    }


def cpu_model() -> str:
    """The processor as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
