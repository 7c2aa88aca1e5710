"""The optimizer step on any GPU that Triton compiles for: one launch for all tensors of a table.

The engine (`csrc/engine`) hands over a table of addresses and numbers. It lies on the device, and is copied there
only where it differs from the last step's.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from lerac_fast._native.extension import extension
from lerac_fast._triton._launch import launch
from lerac_fast._triton._math import (
    BETA1,
    BETA2,
    BIAS_CORRECTION1,
    INVERSE_SCALE,
    LR,
    NUMBERS,
    RULES,
    SQRT_BIAS_CORRECTION2,
    bias_correction,
)

if TYPE_CHECKING:
    from lerac_fast._C import PackedTable

# (parameter and gradient, states), as csrc/engine/row.h numbers them.
ELEMENTS = [
    (tl.float32, tl.float32),
    (tl.float64, tl.float64),
    (tl.bfloat16, tl.bfloat16),
    (tl.float16, tl.float16),
    (tl.bfloat16, tl.float32),
    (tl.float16, tl.float32),
]
# Columns of the rows, as csrc/engine/python_backend.cpp packs them.
PARAM, GRADIENT, STATE, NUMEL, WHICH_NUMBERS, STEP, STEP_IS_DOUBLE, COLUMNS = (
    tl.constexpr(column) for column in (0, 1, 2, 5, 6, 7, 8, 9)
)

CHUNK = 1024  # elements that a program updates: 8 for each thread
THREADS = 128
PREPARED = 64  # rows that a program of `prepare` prepares


# ---- kernels ----


@triton.jit
def _update_chunk(
    param, gradient, state0, state1, state2, i, mask, h, correction1, sqrt_correction2,
    RULE: tl.constexpr, STATES: tl.constexpr, COMPUTE: tl.constexpr, UNSCALES: tl.constexpr,
):  # fmt: skip
    """The elements at offsets `i`: all of them if `mask` is None."""
    p = tl.load(param + i, mask).to(COMPUTE)
    g = tl.load(gradient + i, mask).to(COMPUTE)
    s0, s1, s2 = p, p, p  # whatever a rule lacks, it does not look at
    if STATES > 0:
        s0 = tl.load(state0 + i, mask).to(COMPUTE)
    if STATES > 1:
        s1 = tl.load(state1 + i, mask).to(COMPUTE)
    if STATES > 2:
        s2 = tl.load(state2 + i, mask).to(COMPUTE)
    p, s0, s1, s2 = RULE(p, g, s0, s1, s2, h, correction1, sqrt_correction2)
    tl.store(param + i, p.to(param.dtype.element_ty), mask)
    if STATES > 0:
        tl.store(state0 + i, s0.to(state0.dtype.element_ty), mask)
    if STATES > 1:
        tl.store(state1 + i, s1.to(state1.dtype.element_ty), mask)
    if STATES > 2:
        tl.store(state2 + i, s2.to(state2.dtype.element_ty), mask)
    if UNSCALES:
        g *= tl.load(h + INVERSE_SCALE).to(COMPUTE)
        tl.store(gradient + i, g.to(gradient.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["found_inf"])
def update_rows(
    rows, numbers, chunks, found_inf: tl.int64, correction1: tl.float64, sqrt_correction2: tl.float64,
    RULE: tl.constexpr, STATES: tl.constexpr, ELEMENT: tl.constexpr, STATE_ELEMENT: tl.constexpr,
    COMPUTE: tl.constexpr, UNSCALES: tl.constexpr, PREPARED: tl.constexpr, SCALED: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Each program updates one chunk of one row.

    chunks: int32 [programs, 2], the row and which of its chunks. The bias corrections are those of all rows, or 1 where
    rows have their own in `numbers`. With PREPARED there are numbers for every row.
    """
    live = True
    if SCALED:
        live = tl.load(found_inf.to(tl.pointer_type(tl.float32))) == 0
    if live:
        program = tl.program_id(0)
        index = tl.load(chunks + 2 * program)
        begin = tl.load(chunks + 2 * program + 1).to(tl.int64) * CHUNK
        row = rows + index * COLUMNS
        h = numbers + (index if PREPARED else tl.load(row + WHICH_NUMBERS)) * NUMBERS
        correction1 *= tl.load(h + BIAS_CORRECTION1)
        sqrt_correction2 *= tl.load(h + SQRT_BIAS_CORRECTION2)
        numel = tl.load(row + NUMEL)
        a, b = tl.load(row + PARAM), tl.load(row + GRADIENT)
        c, d, e = tl.load(row + STATE), tl.load(row + STATE + 1), tl.load(row + STATE + 2)
        aligned = ((a | b | c | d | e) & 15) == 0
        param = a.to(tl.pointer_type(ELEMENT)) + begin
        gradient = b.to(tl.pointer_type(ELEMENT)) + begin
        state0 = c.to(tl.pointer_type(STATE_ELEMENT)) + begin
        state1 = d.to(tl.pointer_type(STATE_ELEMENT)) + begin
        state2 = e.to(tl.pointer_type(STATE_ELEMENT)) + begin
        i = tl.arange(0, CHUNK)
        if aligned & (begin + CHUNK <= numel):
            # What was just found, told to the compiler: accesses of 128 bits. Where parameters are narrower than states
            # they are accessed in 64 bits: else the compiler would pass the states from thread to thread before it
            # stores them, through shared memory.
            AT_ONCE: tl.constexpr = 128 // STATE_ELEMENT.primitive_bitwidth
            i = tl.max_contiguous(tl.multiple_of(i, AT_ONCE), AT_ONCE)
            _update_chunk(
                tl.multiple_of(param, 16), tl.multiple_of(gradient, 16),
                tl.multiple_of(state0, 16), tl.multiple_of(state1, 16), tl.multiple_of(state2, 16),
                i, None, h, correction1, sqrt_correction2, RULE, STATES, COMPUTE, UNSCALES,
            )  # fmt: skip
        else:
            _update_chunk(
                param, gradient, state0, state1, state2,
                i, i < numel - begin, h, correction1, sqrt_correction2, RULE, STATES, COMPUTE, UNSCALES,
            )  # fmt: skip


@triton.jit
def _number_at(address, is_double, mask):
    """float64 numbers from addresses [n] of float32 or float64 numbers; 0 where not `mask`."""
    double = tl.load(address.to(tl.pointer_type(tl.float64)), mask & is_double, other=0)
    single = tl.load(address.to(tl.pointer_type(tl.float32)), mask & ~is_double, other=0)
    return tl.where(is_double, double, single.to(tl.float64))


@triton.jit(do_not_specialize=["count", "grad_scale", "found_inf"])
def prepare(
    rows, numbers, rates, prepared, count, grad_scale: tl.int64, found_inf: tl.int64,
    SCALED: tl.constexpr, UNSCALES: tl.constexpr, NUMBERS_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Copies the numbers of every row to `prepared`, reads those that lie on the device, and counts steps."""
    live = True
    if SCALED:
        live = tl.load(found_inf.to(tl.pointer_type(tl.float32))) == 0
    if live:
        index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        there = index < count
        row = rows + index * COLUMNS
        which = tl.load(row + WHICH_NUMBERS, there, other=0)
        rate = tl.load(rates + 2 * which, there, other=0)
        has_rate = there & (rate != 0)
        step = tl.load(row + STEP, there, other=0)
        counts = there & (step != 0)

        # Each number is stored once: what several threads store to one address has no order.
        column = tl.arange(0, NUMBERS_BLOCK)
        of_bias = (column == BIAS_CORRECTION1) | (column == SQRT_BIAS_CORRECTION2)
        on_device = (column == LR)[None, :] & has_rate[:, None] | of_bias[None, :] & counts[:, None]
        if UNSCALES:
            on_device |= (column == INVERSE_SCALE)[None, :]
        mask = there[:, None] & (column < NUMBERS)[None, :] & ~on_device
        values = tl.load(numbers + which[:, None] * NUMBERS + column[None, :], mask)
        to = prepared + index * NUMBERS
        tl.store(to[:, None] + column[None, :], values, mask)

        rate_is_double = tl.load(rates + 2 * which + 1, there, other=0) != 0
        tl.store(to + LR, _number_at(rate, rate_is_double, has_rate), has_rate)
        if UNSCALES:
            inverse_scale = 1 / tl.load(grad_scale.to(tl.pointer_type(tl.float32))).to(tl.float64)
            tl.store(to + INVERSE_SCALE, tl.zeros([BLOCK], tl.float64) + inverse_scale, there)

        is_double = tl.load(row + STEP_IS_DOUBLE, there, other=0) != 0
        t = _number_at(step, is_double, counts) + 1
        tl.store(step.to(tl.pointer_type(tl.float64)), t, counts & is_double)
        tl.store(step.to(tl.pointer_type(tl.float32)), t.to(tl.float32), counts & ~is_double)
        beta1 = tl.load(numbers + which * NUMBERS + BETA1, there, other=0)
        beta2 = tl.load(numbers + which * NUMBERS + BETA2, there, other=0)
        tl.store(to + BIAS_CORRECTION1, bias_correction(beta1, t), counts)
        tl.store(to + SQRT_BIAS_CORRECTION2, tl.sqrt(bias_correction(beta2, t)), counts)


# ---- tables ----


@dataclass
class Array:
    """An array of numbers on the device, and what it is a copy of."""

    dtype: torch.dtype
    device: torch.device
    contents: bytes = b""
    stream: int = 0
    tensor: Tensor | None = None
    captured: dict[bytes, Tensor] = field(default_factory=dict)
    """On the host: what graphs copy to the device at each replay. A graph does not say when it is gone."""

    def holding(self, contents: bytes) -> Tensor:
        """The tensor that holds `contents`, copied to the device if it does not yet."""
        if self.device.type != "cpu" and torch.cuda.is_current_stream_capturing():
            # Nothing is copied before the graph's replay, and then at each: no other step may rely on this copy, whose
            # memory on the device is the graph's.
            if contents not in self.captured:
                self.captured[contents] = _numbers(contents, self.dtype).pin_memory()
            return self.captured[contents].to(self.device, non_blocking=True)
        stream = _stream(self.device)
        if self.tensor is None or contents != self.contents or stream != self.stream:
            self.tensor = self._copy(contents)
            self.contents, self.stream = contents, stream
        return self.tensor

    def _copy(self, contents: bytes) -> Tensor:
        """On the device. torch keeps the host's pinned memory until the stream has read it."""
        host = _numbers(contents, self.dtype)
        return host if self.device.type == "cpu" else host.pin_memory().to(self.device, non_blocking=True)


@dataclass
class Table:
    """What is kept from step to step of one engine table."""

    rows: Array
    numbers: Array
    rates: Array
    chunks: Array
    chunks_of: Tensor | None = None  # numel of the rows
    chunk_bytes: bytes = b""

    @classmethod
    def on(cls, device: torch.device) -> Table:
        rows, numbers, rates, chunks = (
            Array(dtype, device) for dtype in (torch.int64, torch.float64, torch.int64, torch.int32)
        )
        return cls(rows, numbers, rates, chunks)

    def chunks_holding(self, numels: Tensor) -> tuple[Tensor, int]:
        """The chunks that the rows are divided into, and how many."""
        if self.chunks_of is None or not torch.equal(self.chunks_of, numels):
            counts = (numels + CHUNK - 1) // CHUNK
            row = torch.arange(len(numels)).repeat_interleave(counts)
            chunk = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
            self.chunks_of = numels
            self.chunk_bytes = _bytes(torch.stack([row, chunk], 1).to(torch.int32))
        return self.chunks.holding(self.chunk_bytes), len(self.chunk_bytes) // 8


def _bytes(tensor: Tensor) -> bytes:
    tensor = tensor.contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.nbytes)


def _numbers(contents: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(contents), dtype=dtype) if contents else torch.empty(0, dtype=dtype)


def _columns(contents: bytes, dtype: torch.dtype, columns: tl.constexpr) -> Tensor:
    return _numbers(contents, dtype).view(-1, columns.value)


def _stream(device: torch.device) -> int:
    return 0 if device.type == "cpu" else torch.cuda.current_stream(device).cuda_stream


def is_capturing(device: torch.device) -> bool:
    """Whether what is launched on the device now is recorded into a graph and not run."""
    if device.type == "cpu":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def update_table(packed: PackedTable) -> None:
    """Queues one update of all tensors of a table: `csrc/engine/python_backend.h`."""
    table: Table = packed.kept or Table.on(packed.device)
    packed.kept = table
    with torch.cuda.device(packed.device if packed.device.type == "cuda" else -1):
        _update(table, packed)


def _update(table: Table, packed: PackedTable) -> None:
    columns = _columns(packed.rows, torch.int64, COLUMNS)
    chunks, programs = table.chunks_holding(columns[:, NUMEL.value])
    rows = table.rows.holding(packed.rows)
    numbers = _columns(packed.numbers, torch.float64, NUMBERS)
    scaled, has_scale = packed.found_inf != 0, packed.grad_scale != 0
    deferred = scaled or has_scale or bool(packed.rates.strip(b"\0")) or bool(columns[:, STEP.value].any())
    unscales = has_scale or bool((numbers[:, INVERSE_SCALE.value] != 1).any())
    correction1, sqrt_correction2 = 1.0, 1.0
    if not deferred:
        # Bias corrections differ at every step. Where all rows have the same, they are not part of the table.
        columns_of_both = [BIAS_CORRECTION1.value, SQRT_BIAS_CORRECTION2.value]
        both = numbers[:, columns_of_both]
        if bool((both == both[0]).all()):
            correction1, sqrt_correction2 = both[0].tolist()
            numbers[:, columns_of_both] = 1
    numbers_there = table.numbers.holding(_bytes(numbers))
    if deferred:
        prepared = torch.empty(len(columns), NUMBERS.value, dtype=torch.float64, device=packed.device)
        launch(
            prepare, (triton.cdiv(len(columns), PREPARED),), THREADS, rows,
            rows, numbers_there, table.rates.holding(packed.rates), prepared, len(columns),
            packed.grad_scale, packed.found_inf,
            SCALED=scaled, UNSCALES=has_scale, NUMBERS_BLOCK=triton.next_power_of_2(NUMBERS.value), BLOCK=PREPARED,
        )  # fmt: skip
        numbers_there = prepared
    element, state_element = ELEMENTS[packed.elements]
    launch(
        update_rows, (programs,), THREADS, rows,
        rows, numbers_there, chunks, packed.found_inf, correction1, sqrt_correction2,
        RULE=RULES[packed.rule], STATES=extension.RULES[packed.rule], ELEMENT=element, STATE_ELEMENT=state_element,
        COMPUTE=tl.float64 if element is tl.float64 else tl.float32,
        UNSCALES=unscales, PREPARED=deferred, SCALED=scaled, CHUNK=CHUNK,
    )  # fmt: skip
