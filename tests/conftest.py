"""The tests of optimizers and operators, with the kernels for GPUs.

    TRITON_INTERPRET=1 pytest tests/optim tests/ops

Triton's interpreter runs kernels on the CPU, so what is registered for GPUs takes the CPU's place in torch's
dispatcher. CUDA's kernels take it in a build of their own, by emulation: see tools/cuda_emulation.
"""

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch._dynamo  # else every child that measures the depth of a model would load it anew, in half a second
from hypothesis import HealthCheck, settings

from lerac_fast._native.triton import register_triton
from tests.kernels import KERNELS, NUMBERS_ON_DEVICE
from tests.processes import Processes, shared

# For all tests: an example takes as long as it takes, however busy the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# What is left out: an expression that finds the tests' names -> why.
NOT_FOR_GPUS = {
    r"test_thread_count|test_instruction_sets": "about the CPU's threads and instruction sets",
    r"test_operands.py::test_long_rows_in_blocks": "about the CPU's blocks of a row",
    r"test_tempered_cross_entropy.py::test_bad_input\[(target -?\d|sigma \S+ of row|sigma (-2|nan|inf))": (
        "a GPU cannot refuse values without waiting for them"
    ),
}
# And in Triton's interpreter, where a launch takes tens of milliseconds.
SLOW = {
    r"test_parity.py::test_equals_torch": "follows from equality with the reference, and the CPU's with torch's",
    r"test_parity.py::test_layouts\[1": "layouts are the engine's; once is enough",
    r"test_determinism.py": "equal elements, in tens of launches",
    r"test_edits.py": "the plan is the engine's, and thousands of launches",
    r"test_memory.py::test_nothing_is_left": "what is left over is the engine's, and thousands of launches",
    r"distributed/test_layouts.py::test_parity": "shards reach kernels as plain tensors, whose parity is tested",
    r"test_interruptions.py::test_(rates_that_change|a_warning_handler)": "the walk is the engine's; large tensors",
    r"test_regroup.py::test_any_layout": "state dicts are rearranged without a kernel, between hundreds of launches",
    r"test_boundaries.py::test_(sizes_of_maps|wide_windows|numbers_of_)": "hundreds of launches, around CUDA's limits",
    r"test_gaussian_smooth_autograd.py::test_derivatives": "thousands of launches; the derivative is every backend's",
    r"test_values_and_layout\[11-": "to these kernels like 5; other tests have sizes of 7, 31 and more",
    r"\(1, 1, 90000, 3\)": "a large map, and to these kernels like smaller ones",
    r"stays_among_its_neighbours\[.*(--inf-|-float16|-float64)": "to these kernels like NaN, inf and the other dtypes",
    r"test_every_16_bit_number_survives\[dtype\d-(1|40)-": "to these kernels like 7, 8 and 96 channels",
}
# Tests that try so many examples, as the interpreter is slow: the end of their names -> how many.
EXAMPLES = {"::test_strided_tensors": 50}


def _resize_programs() -> None:
    """The interpreter's time goes by the number of programs, so that they are larger here; and what only large tensors
    would show on a GPU, small ones do."""
    from lerac_fast._triton import gaussian_smooth, optimizer_step, tempered_cross_entropy

    optimizer_step.CHUNK = 8192
    gaussian_smooth.GROUPS = 4096
    gaussian_smooth.LARGEST_32_BIT = 10_000
    tempered_cross_entropy.TILE = 8192
    tempered_cross_entropy.LONGEST_TILE = 256  # rows of 1000 classes take several tiles
    tempered_cross_entropy.ROWS_OF_ONE_PROGRAM = 1000


def _mend_bfloat16() -> None:
    """Triton's interpreter cuts float32 off to bfloat16, where GPUs round, and takes subnormal bfloat16 for 0."""
    from triton import language as tl
    from triton.runtime import interpreter

    convert_others = interpreter._convert_float

    def convert(bits: np.ndarray, source: tl.dtype, target: tl.dtype, rounding: object) -> np.ndarray:
        if (source, target) == (tl.float32, tl.bfloat16):
            return torch.from_numpy(np.array(bits)).bfloat16().view(torch.int16).numpy().view(np.uint16)
        if (source, target) == (tl.bfloat16, tl.float32):
            return bits.astype(np.uint32) << 16
        return convert_others(bits, source, target, rounding)

    interpreter._convert_float = convert


def _patch_the_language_once_a_launch() -> None:
    """The interpreter looks for what it replaces in Triton's language at every launch, and again at every call of a
    device function in it, when there is nothing left to replace: a fifth of its time."""
    from triton.runtime import interpreter

    patch, restore = interpreter._patch_builtin, interpreter._LangPatchScope.restore
    patched = set()

    def patch_once(package: object, *arguments: object) -> None:
        if package not in patched:
            patched.add(package)
            patch(package, *arguments)

    def restore_at_its_end(scope: object) -> None:
        patched.clear()
        restore(scope)

    interpreter._patch_builtin = patch_once
    interpreter._LangPatchScope.restore = restore_at_its_end


def pytest_configure(config: pytest.Config) -> None:
    if KERNELS != "triton":
        return
    # NumPy, which computes for the interpreter, warns of what GPUs compute in silence: infinities and NaN.
    config.addinivalue_line("filterwarnings", "ignore::RuntimeWarning:triton")
    _mend_bfloat16()
    _patch_the_language_once_a_launch()
    _resize_programs()
    config.triton_library = register_triton(torch.device("cpu"), NUMBERS_ON_DEVICE)  # lives as long as the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if KERNELS == "cpu":
        return
    for item in items:
        for name, reason in (NOT_FOR_GPUS | SLOW if KERNELS == "triton" else NOT_FOR_GPUS).items():
            if re.search(name, item.nodeid):
                item.add_marker(pytest.mark.skip(reason=reason))
        if KERNELS != "triton":
            continue
        for name, examples in EXAMPLES.items():
            if item.nodeid.endswith(name):
                fewer = settings(item.obj._hypothesis_internal_use_settings, max_examples=examples)
                item.obj._hypothesis_internal_use_settings = fewer


# Processes of torch.distributed, which the tests of a file share.


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    yield from shared(2)


@pytest.fixture(scope="module")
def four() -> Iterator[Processes]:
    yield from shared(4)
