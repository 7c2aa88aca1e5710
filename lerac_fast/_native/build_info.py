"""What this installation of lerac_fast is made of."""

import importlib.metadata
from functools import cache
from typing import Any

import torch

from lerac_fast import _built_with
from lerac_fast._native.extension import extension
from lerac_fast._native.gpu_backend import absences
from lerac_fast._version import __version__

PRESENT = "present"


def build_info() -> dict[str, Any]:
    """Versions, the CPU instruction set in use, and which GPU backends are present, or why not.

    Returns:
        A dict of strings and lists: `lerac_fast` (its version), `torch` (installed), `torch_built_with`,
        `compiler`, `cpu_capability` (in use), `cpu_capabilities` (available here; the environment variable
        `LERAC_FAST_CPU_CAPABILITY` chooses one before import), `threads` and `gpu_backends`, a dict of backend
        name to `"present, ..."` or the reason of its absence, such as a GPU that does not run what was compiled.
        `gpu_backend` says which is in use, and chooses.
    """
    return {
        "lerac_fast": __version__,
        "torch": torch.__version__,
        "torch_built_with": _built_with.torch_version,
        "compiler": extension.compiler,
        "cpu_capability": extension.cpu_capability(),
        "cpu_capabilities": extension.available_cpu_capabilities(),
        "threads": torch.get_num_threads(),
        "gpu_backends": gpu_backends(),
    }


def gpu_backends() -> dict[str, str]:
    """The backends by name: "present, ..." or why there is none."""
    architectures = _built_with.cuda_architectures.replace(";", ", ")
    details = {
        "cuda": lambda: f"CUDA {_built_with.cuda_version} for {architectures}",
        "triton": lambda: f"triton {_version('triton')}",
    }
    return {name: reason or f"{PRESENT}, {details[name]()}" for name, reason in absences().items()}


@cache
def _version(package: str) -> str:
    """Of the distribution that the package comes from, whose name may be another: builds of torch for ROCm have one."""
    distributions = importlib.metadata.packages_distributions().get(package, [])
    return importlib.metadata.version(distributions[0]) if distributions else "of unknown version"
