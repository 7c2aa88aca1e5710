"""What the Triton backend launches, found out by letting its own functions launch, and compiled ahead of time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from lerac_fast._triton import gaussian_smooth, optimizer_step, tempered_cross_entropy
from tools.gpu_code import amdgcn, sass
from tools.gpu_code.machine_code import Kernel
from tools.gpu_code.nvcc import BUILD
from tools.gpu_code.targets import Target


@dataclass
class Launch:
    """One call of lerac_fast._triton._launch.launch."""

    kernel: Any  # triton.JITFunction
    threads: int
    arguments: tuple[Any, ...]
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        name: str = self.kernel.__name__
        return name


def launches_of(call: Callable[[], object]) -> list[Launch]:
    """What `call` launches, on tensors of the CPU: they are aligned as those of a GPU are."""
    launches = []

    def record(
        kernel: Any, _grid: tuple[int, ...], threads: int, _device_of: Tensor, *arguments: Any, **constants: Any
    ) -> None:
        launches.append(Launch(kernel, threads, arguments, constants))

    with ExitStack() as patches:
        for module in (gaussian_smooth, optimizer_step, tempered_cross_entropy):
            patches.enter_context(patch.object(module, "launch", record))
        call()
    return launches


class _AheadOfTime:
    """In place of a driver of Triton: says that there is a GPU of this kind."""

    def __init__(self, target: Target) -> None:
        if target.vendor == "nvidia":
            self._target = GPUTarget("cuda", target.capability, target.warp)
        else:
            self._target = GPUTarget("hip", target.name, target.warp)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> str:
        return str(self._target.arch)  # one cache of compiled kernels for each

    def get_current_stream(self, _device: str) -> int:
        return 0


@contextmanager
def compiling_for(target: Target) -> Iterator[None]:
    previous = driver._active
    driver.set_active(_AheadOfTime(target))
    try:
        yield
    finally:
        driver._active = previous


def warm_up(launch: Launch, target: Target) -> Any:
    """What Triton compiles for the launch, within `compiling_for(target)`, or has compiled in this process."""
    return launch.kernel.warmup(
        *launch.arguments,
        grid=(1,),
        **launch.constants,
        num_warps=max(1, launch.threads // target.warp),
        enable_fp_fusion=False,
    )


def compile_launch(launch: Launch, target: Target) -> Any:
    """What Triton compiles, as the launch would have it."""
    with compiling_for(target):
        return warm_up(launch, target)


def read_kernels(compiled: list[Any], target: Target) -> list[Kernel]:
    """The kernel of each of them."""
    if target.vendor == "amd":
        return [amdgcn.read(one.asm["amdgcn"]) for one in compiled]
    kernels = []
    for listing in sass.disassemble([one.asm["cubin"] for one in compiled], target, BUILD / "sass"):
        [kernel] = sass.read(listing).values()
        kernels.append(kernel)
    return kernels
