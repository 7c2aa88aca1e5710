"""What this installation of lerac_fast is made of."""

from typing import Any

import torch

from lerac_fast import _built_with
from lerac_fast._extension import extension
from lerac_fast._gpu_backend import gpu_backends
from lerac_fast._version import __version__


def build_info() -> dict[str, Any]:
    """Versions, the CPU instruction set in use, and which GPU backends are present, or why not.

    Returns:
        A dict of strings and lists: `lerac_fast` (its version), `torch` (installed), `torch_built_with`,
        `compiler`, `cpu_capability` (in use), `cpu_capabilities` (available here; the environment variable
        `LERAC_FAST_CPU_CAPABILITY` chooses one before import), `threads` and `gpu_backends`, a dict of backend
        name to `"present, ..."` or the reason of its absence. `gpu_backend` says which is in use, and chooses.
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
