"""The GPUs that kernels are compiled for, and how many threads of a kernel one multiprocessor holds at once."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """Limits of one multiprocessor (AMD: compute unit), which has four schedulers with registers of their own."""

    name: str
    vendor: Literal["nvidia", "amd"]
    warp: int  # threads
    warps: int  # of one scheduler
    registers: int  # of one scheduler, in units of `granule` for a whole warp
    granule: int  # registers of a thread are given out in such units
    blocks: int
    shared: int  # bytes
    shared_of_block: int  # bytes that every block takes on top of its own

    @property
    def capability(self) -> int:
        return int(self.name.removeprefix("sm_"))


SCHEDULERS = 4


def _nvidia(name: str, shared: int) -> Target:
    # 65536 registers, given out to a warp in units of 256, which is 8 for each of its threads.
    return Target(name, "nvidia", 32, 16, 65536 // SCHEDULERS // 32, 8, 32, shared * 1024, 1024)


NVIDIA = (_nvidia("sm_80", 164), _nvidia("sm_90", 228), _nvidia("sm_100", 228))
AMD = (Target("gfx942", "amd", 64, 8, 512, 8, 32, 64 * 1024, 0),)
TARGETS = {target.name: target for target in (*NVIDIA, *AMD)}


def occupancy(target: Target, threads: int, registers: int, shared: int) -> float:
    """The share of a multiprocessor's warps that can be resident, for blocks of `threads` with `shared` bytes."""
    of_thread = -(-max(registers, 1) // target.granule) * target.granule
    warps_of_block = -(-threads // target.warp)
    warps = SCHEDULERS * min(target.warps, target.registers // of_thread)
    blocks = min(warps // warps_of_block, target.blocks)
    if shared > 0:
        blocks = min(blocks, target.shared // (shared + target.shared_of_block))
    return blocks * warps_of_block / (SCHEDULERS * target.warps)
