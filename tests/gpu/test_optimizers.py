"""On a GPU, optimizers compute what they compute on the CPU, and keep their states where torch does."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

import lerac_fast.optim
from benchmarks.shapes import MODELS
from lerac_fast import _built_with
from lerac_fast._native.extension import extension
from lerac_fast._native.launches import launches_apart
from tests.gpu.twins import Twins, plain
from tests.kernels import NUMBERS_ON_DEVICE
from tests.optim.cases import (
    COUNTING,
    TYPICAL,
    Case,
    all_cases,
    all_dtypes,
    assert_equal,
    groups,
    random,
    typical_cases,
)
from tests.optim.test_launches import CASES as LAUNCH_CASES
from tests.optim.test_launches import (
    LAUNCHES_WITH_NUMBERS_OF_THE_DEVICE,
    launches_of_a_step,
    overlapping_launches_of,
    shrunk,
)
from tests.reference import optimizers as reference

pytestmark = pytest.mark.gpu

# Bias corrections that the device computes come from its own pow(), one or two units in the last place of a float64
# from the CPU's. In float32 that moves the rounding of a factor once in a while.
DEVICE_COUNTS = {torch.float32: {"rtol": 2e-6, "atol": 2e-6}, torch.float64: {"rtol": 1e-13, "atol": 1e-13}}


@all_cases
@all_dtypes
def test_equals_the_cpu_bit_for_bit(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    """Of all shapes and layouts; neither backend contracts products and sums, and both round 16-bit numbers alike."""
    twins = Twins(device, dtype)
    there, here = twins.optimizers(case)
    for step in range(4):
        twins.new_gradients(bucket=step % 2 == 1)
        there.step()
        here.step()
        twins.assert_equal(there, here)


def _with_float32_states(case: Case, optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for param in group["params"]:
            state: dict[str, Any] = reference.new_state(case.name, param, group, torch.float32)
            if "step" in state:
                state["step"] = torch.tensor(0.0)
            if case.options.get("momentum"):
                state["momentum_buffer"] = torch.full_like(param, 0.25, dtype=torch.float32)
            optimizer.state[param] = state


@all_cases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_float32_states_of_16_bit_parameters(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    twins = Twins(device, dtype)
    optimizers = twins.optimizers(case)
    for optimizer in optimizers:
        _with_float32_states(case, optimizer)
    for step in range(3):
        twins.new_gradients(bucket=step % 2 == 1)
        for optimizer in optimizers:
            optimizer.step()
        twins.assert_equal(*optimizers)


@all_cases
def test_equals_torch_in_float64(case: Case, device: torch.device) -> None:
    """torch's own on the same device; 1e-12 relative is a few thousand units in the last place."""
    twins = Twins(device, torch.float64)
    params = [nn.Parameter(param.detach().clone()) for param in twins.there]
    there, _ = twins.optimizers(case)
    torchs = case.torch(groups(params))
    for _ in range(6):
        twins.new_gradients()
        for param, own in zip(twins.there, params, strict=True):
            own.grad = param.grad.clone()
        there.step()
        torchs.step()
    for param, own in zip(twins.there, params, strict=True):
        torch.testing.assert_close(param, own, rtol=1e-12, atol=1e-13)


@all_cases
def test_late_gradients_and_groups_of_different_kinds(case: Case, device: torch.device) -> None:
    """Dtypes side by side, and parameters that count fewer steps than others."""
    parts = [Twins(device, dtype, [((257,), plain, plain)] * 3) for dtype in (torch.float32, torch.bfloat16)]
    there = case.fast(groups([param for twins in parts for param in twins.there]))
    here = case.fast(groups([param for twins in parts for param in twins.here]))
    for step in range(5):
        for twins in parts:
            twins.new_gradients()
            if step % 2:
                twins.there[1].grad = twins.here[1].grad = None
            twins.there[2].grad = twins.here[2].grad = None  # never
        there.step()
        here.step()
        for twins in parts:
            twins.assert_equal(there, here)
            assert twins.there[2] not in there.state


# ---- step counts ----

counting_cases = pytest.mark.parametrize("case", COUNTING, ids=str)


@counting_cases
@pytest.mark.parametrize("option", [None, "capturable", "fused"])
@pytest.mark.parametrize("dtype", DEVICE_COUNTS, ids=["float32", "float64"])
def test_where_steps_are_counted(
    case: Case, option: str | None, dtype: torch.dtype, device: torch.device, no_synchronization
) -> None:
    """As torch has it: on the device with capturable=True or fused=True, else on the CPU."""
    if option == "fused" and case.name == "Adamax":
        pytest.skip("torch's Adamax has no fused")
    twins = Twins(device, dtype)
    there, here = twins.optimizers(case, **({option: True} if option else {}))
    for _ in range(3):
        twins.new_gradients()
        with no_synchronization():
            there.step()
        here.step()
    place = device if option else torch.device("cpu")
    assert {there.state[param]["step"].device for param in twins.there} == {place}
    assert {there.state[param]["step"].item() for param in twins.there} == {3.0}
    twins.assert_equal(there, here, **(DEVICE_COUNTS[dtype] if option else {}))


# torch's implementations, by the options that choose them.
TORCHS: list[tuple[Case, dict[str, Any]]] = [
    *[(case, {"fused": True}) for case in TYPICAL if case.is_of_torch and case.name != "Adamax"],
    *[(case, {"foreach": True}) for case in TYPICAL if case.is_of_torch],
    *[(case, {"foreach": True, "capturable": True}) for case in COUNTING],
]


@pytest.mark.parametrize(
    ("case", "options"), TORCHS, ids=lambda value: "-".join(value) if type(value) is dict else None
)
@pytest.mark.parametrize("first", ["torch", "lerac_fast"])
def test_checkpoints_in_mid_training(case: Case, options: dict[str, Any], first: str, device: torch.device) -> None:
    """Three steps by one library and three by the other are six of torch's."""
    if options.get("capturable") and device.type == "cpu":
        pytest.skip("torch has capturable on GPUs only")
    torch_class, our_class = getattr(torch.optim, case.name), getattr(lerac_fast.optim, case.name)
    generator = torch.Generator().manual_seed(0)
    initial = [random((size,), torch.float64, generator).to(device) for size in (5, 4097)]

    def make(kind: type, values: list[torch.Tensor], **which: Any) -> torch.optim.Optimizer:
        return kind(groups([nn.Parameter(value.clone()) for value in values]), lr=0.02, **case.options, **which)

    def step(optimizer: torch.optim.Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for group in optimizer.param_groups:
            group["params"][0].grad = random(tuple(group["params"][0].shape), torch.float64, generator).to(device)
        optimizer.step()

    def values(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        return [group["params"][0].detach() for group in optimizer.param_groups]

    whole = make(torch_class, initial, **options)
    half = make(torch_class, initial, **options) if first == "torch" else make(our_class, initial)
    for seed in range(3):
        step(whole, seed)
        step(half, seed)
    saved = copy.deepcopy(half.state_dict())
    if first == "lerac_fast":
        for group in saved["param_groups"]:
            group |= options  # torch loads options, too, and moves step counts by them
        rest = make(torch_class, values(half), **options)
    else:
        rest = make(our_class, values(half))
    rest.load_state_dict(saved)
    for seed in range(3, 6):
        step(whole, seed)
        step(rest, seed)
    # With capturable=True torch computes bias corrections in the float32 of the step counts.
    tolerance = {"rtol": 2e-6, "atol": 2e-6} if options.get("capturable") else {"rtol": 1e-11, "atol": 1e-12}
    for a, b in zip(whole.param_groups, rest.param_groups, strict=True):
        torch.testing.assert_close(b["params"][0], a["params"][0], **tolerance)
        ours, torchs = rest.state[b["params"][0]], whole.state[a["params"][0]]
        assert ours.keys() == torchs.keys()
        for key in torchs:
            torch.testing.assert_close(ours[key].cpu(), torchs[key].cpu(), **tolerance)


# ---- tensor rates ----


@typical_cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_rates_on_the_device(case: Case, dtype: torch.dtype, device: torch.device, no_synchronization) -> None:
    """Changed in place between steps, and read without waiting; the numbers are those of rates on the host."""
    twins = Twins(device, torch.float32)
    there, here = twins.optimizers(case)
    for i, (group, twin) in enumerate(zip(there.param_groups, here.param_groups, strict=True)):
        twin["lr"] = 2.0**-5 * (1 + i % 3)
        group["lr"] = torch.tensor(twin["lr"], dtype=dtype, device=device)
    for _ in range(3):
        twins.new_gradients()
        with no_synchronization():
            there.step()
        here.step()
        twins.assert_equal(there, here)
        for group, twin in zip(there.param_groups, here.param_groups, strict=True):
            group["lr"] *= 0.5
            twin["lr"] *= 0.5


@typical_cases
def test_a_rate_on_the_cpu_is_a_number(case: Case, device: torch.device) -> None:
    twins = Twins(device, torch.float32, [((100,), plain, plain)])
    there, here = twins.optimizers(case)
    there.param_groups[0]["lr"] = torch.tensor(0.25)
    here.param_groups[0]["lr"] = 0.25
    for _ in range(2):
        twins.new_gradients()
        there.step()
        here.step()
    twins.assert_equal(there, here)


@typical_cases
def test_a_step_does_not_wait(case: Case, device: torch.device, no_synchronization) -> None:
    """The first one neither."""
    params = [nn.Parameter(torch.ones(shape, device=device)) for shape in shrunk(MODELS["ResNet-18"]())]
    optimizer = case.fast(groups(params))
    for step in range(3):
        for param in params:
            param.grad = torch.full_like(param, step)
        with no_synchronization():
            optimizer.step()


# ---- launches, devices ----


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("model", ["ResNet-18", "BERT-large"])
@pytest.mark.parametrize(("case", "most"), LAUNCH_CASES, ids=str)
def test_launches(
    case: Case, most: dict[str, int], model: str, capturable: bool, device: torch.device, gpu_kernels: str
) -> None:
    if gpu_kernels == "triton":
        pytest.skip("launches of compiled kernels are counted")
    counts = case.name in {counting.name for counting in COUNTING}
    options = {"capturable": True} if capturable and counts else {}
    by_device = counts and (NUMBERS_ON_DEVICE or (capturable and device.type == "cuda"))
    expected = LAUNCHES_WITH_NUMBERS_OF_THE_DEVICE if by_device else most.get(model, 1)
    assert launches_of_a_step(case, shrunk(MODELS[model]()), device, **options) == expected


def runs_as_hopper(architectures: str) -> bool:
    """Whether any code is for sm_90 or newer: names without a number stand for the machine's own GPU, or for all."""
    numbers = [re.match(r"\d+", name) for name in architectures.split(";")]
    return any(number is None or int(number[0]) >= 90 for number in numbers)


@counting_cases
def test_launches_that_overlap(case: Case, cuda: torch.device, gpu_kernels: str) -> None:
    """From sm_90 on the second of the two launches of a step does; the numbers are those of launches apart."""
    overlapping, apart = Twins(cuda, torch.float32), Twins(cuda, torch.float32)
    ours = case.fast(groups(overlapping.there), capturable=True)
    expected = case.fast(groups(apart.there), capturable=True)
    driver, _ = extension.driver_versions(cuda)
    can_overlap = (
        gpu_kernels == "cuda"
        and torch.cuda.get_device_capability(cuda) >= (9, 0)
        and runs_as_hopper(_built_with.cuda_architectures)
        and driver >= 12030
        and tuple(map(int, (torch.version.cuda or "0.0").split("."))) >= (12, 3)
    )
    for _ in range(4):
        overlapping.new_gradients()
        apart.new_gradients()
        assert overlapping_launches_of(ours) == int(can_overlap)
        with launches_apart():
            assert overlapping_launches_of(expected) == 0
        for param, other in zip(overlapping.there, apart.there, strict=True):
            assert_equal(param.detach(), other.detach())


@pytest.mark.parametrize("scaled", [False, True])
@all_cases
def test_several_devices_in_one_optimizer(case: Case, scaled: bool, cuda: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    devices = [torch.device("cuda", i) for i in range(2)]
    parts = [Twins(device, torch.float32) for device in devices]
    there = case.fast(groups([param for twins in parts for param in twins.there]))
    here = case.fast(groups([param for twins in parts for param in twins.here]))
    for _ in range(3):
        for twins in parts:
            twins.new_gradients(scale=8.0 if scaled else 1.0)
        if scaled:
            there.grad_scale, there.found_inf = torch.tensor(8.0, device=cuda), torch.tensor(0.0, device=cuda)
        there.step()
        here.step()
        assert torch.cuda.current_device() == cuda.index
        for twins in parts:
            twins.assert_equal(there, here, **(DEVICE_COUNTS[torch.float32] if scaled else {}))
