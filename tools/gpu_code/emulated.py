"""Watches the emulated device (tools/cuda_emulation): what kernels ask of its memory, and what a GPU would not bear."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from torch import Tensor

from lerac_fast._native.extension import extension

WIDTHS = (1, 2, 4, 8, 16)  # bytes of an access
STREAMS = 256  # of a device
OLD_DEVICE = 2  # of sm_80; all others are of sm_90


class _Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("requests", "sectors", "fewest")]


class _Traffic(ctypes.Structure):
    _fields_ = [
        ("blocks", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("reads", _Counts * len(WIDTHS)),
        ("writes", _Counts * len(WIDTHS)),
        ("bytes_read", ctypes.c_int64),
        ("bytes_written", ctypes.c_int64),
        ("overlaps", ctypes.c_int64),
    ]


class Counts(NamedTuple):
    """Of the requests of warps: `fewest` sectors would hold the bytes that each of them asks for."""

    requests: int
    sectors: int
    fewest: int

    @property
    def excess(self) -> float:
        return self.sectors / self.fewest


class Traffic(NamedTuple):
    """Of one launch: requests by the width of the accesses, and bytes to and from the memory."""

    blocks: int
    threads: int
    reads: dict[int, Counts]
    writes: dict[int, Counts]
    bytes_read: int
    bytes_written: int
    overlaps: bool  # may begin while the launch before it runs


def _counts(by_width: ctypes.Array[_Counts]) -> dict[int, Counts]:
    found = zip(WIDTHS, by_width, strict=True)
    return {width: Counts(c.requests, c.sectors, c.fewest) for width, c in found if c.requests > 0}


class EmulatedDevice:
    """While it is watched, tensors that are made on the CPU are the device's, and so is the work on them.

    A stream is a number below 256; of device d it is that and 256 d.
    """

    def __init__(self) -> None:
        self.library = ctypes.CDLL(extension.__file__)
        self.library.emulation_fault.restype = ctypes.c_char_p
        self.library.emulation_traffic.restype = ctypes.POINTER(_Traffic)
        self.library.emulation_synchronizations.restype = ctypes.c_int64

    @property
    def launches(self) -> list[Traffic]:
        found = (self.library.emulation_traffic(i).contents for i in range(self.library.emulation_launches()))
        return [
            Traffic(
                t.blocks,
                t.threads,
                _counts(t.reads),
                _counts(t.writes),
                t.bytes_read,
                t.bytes_written,
                bool(t.overlaps),
            )
            for t in found
        ]

    @property
    def faults(self) -> list[str]:
        return [self.library.emulation_fault(i).decode() for i in range(self.library.emulation_faults())]

    @property
    def synchronizations(self) -> int:
        """How often the host has waited for the device."""
        return int(self.library.emulation_synchronizations())

    def set_device(self, device: int) -> None:
        """The current one, of the host."""
        self.library.emulation_set_device(device)

    def set_device_of_tensors(self, device: int) -> None:
        self.library.emulation_set_device_of_tensors(device)

    def set_stream(self, stream: int) -> None:
        """The current one of its device."""
        self.library.emulation_set_stream(stream)

    def wait(self, waiting: int, working: int) -> None:
        """One stream for all that another has been given so far."""
        self.library.emulation_wait(waiting, working)

    def synchronize(self) -> None:
        self.library.emulation_synchronize()

    def plant(self, kernel: str, *arguments: Tensor | int) -> None:
        """Launches one of tools/cuda_emulation/planted.cu. Tensors are handed over as the addresses of their memory."""
        addresses = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
        getattr(self.library, f"planted_{kernel}")(*map(ctypes.c_int64, addresses))

    def capture(self) -> AbstractContextManager[None]:
        """The current stream's work, into a graph."""
        return _on(self.library.emulation_capture)

    def host_memory(self) -> AbstractContextManager[None]:
        """Tensors that are made here are the host's."""
        return _on(self.library.emulation_allocate_for_host)


@contextmanager
def watched() -> Iterator[EmulatedDevice]:
    device = EmulatedDevice()
    with _on(device.library.emulation_watch):
        yield device


@contextmanager
def _on(switch: Callable[[bool], object]) -> Iterator[None]:
    switch(True)
    try:
        yield
    finally:
        switch(False)
