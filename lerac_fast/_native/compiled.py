"""What the compiled module offers to GPUs, and whether the GPUs of this machine run it."""

import re

import torch

from lerac_fast import _built_with
from lerac_fast._native.extension import extension

GPU = torch.device("cuda")  # torch's name for AMD's GPUs, too


def compiled_absence(look: bool = True) -> str:
    """Why there are no compiled kernels for the GPUs; nothing, if there are.

    Args:
        look: whether to ask the GPUs, which begins CUDA in this process.
    """
    if not extension.has_compiled_backend(GPU):
        return _built_with.cuda_absent
    present, needed = extension.driver_versions(GPU) if look else (0, 0)
    if 0 < present < needed:
        return f"the driver has CUDA {_dotted(present)}, and launches need one of CUDA {_dotted(needed)} or newer"
    for index, capability in enumerate(_capabilities() if look else []):
        if not runs_on(_built_with.cuda_architectures, capability):
            compiled = _built_with.cuda_architectures.replace(";", ", ")
            return (
                f"compiled for {compiled}, which GPU {index}, of compute capability {capability[0]}.{capability[1]}, "
                "does not run: install lerac_fast anew with the environment variable "
                f"CUDAARCHS={capability[0]}{capability[1]}"
            )
    return ""


def _dotted(version: int) -> str:
    """12010 as 12.1."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _capabilities() -> list[tuple[int, int]]:
    try:
        return [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]
    except RuntimeError:  # no driver, or a forked process, in which CUDA cannot begin
        return []


def runs_on(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU runs what was compiled for these architectures, as CMAKE_CUDA_ARCHITECTURES has them.

    `90-real` is machine code, which GPUs of the same major and of no lesser minor version run; `90-virtual` is PTX,
    which all later ones compile for themselves; `90` is both. `90a` is for that version alone.
    """
    parsed = [re.fullmatch(r"(\d+)(\d)([af]?)(-real|-virtual)?", name) for name in architectures.split(";")]
    if None in parsed:  # all, all-major, native
        return True
    for major, minor, special, kind in (match.groups() for match in parsed if match is not None):
        compiled_for = int(major), int(minor)
        if special == "a":
            if compiled_for == capability:
                return True
        elif compiled_for <= capability and (compiled_for[0] == capability[0] or (kind != "-real" and not special)):
            return True
    return False
