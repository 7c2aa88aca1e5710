"""How many launches a step takes: one, whatever the number of groups, until the kernel arguments are full.

Counted where the kernels for CUDA run on the CPU by emulation (LERAC_FAST_EMULATE_CUDA), and on GPUs by tests/gpu.
"""

import math

import pytest
import torch
from torch import nn

from benchmarks.shapes import MODELS, Shapes
from lerac_fast._native.extension import extension
from lerac_fast._native.launches import launches_apart
from tests.kernels import KERNELS, NUMBERS_ON_DEVICE
from tests.optim.cases import Case, assert_equal, groups, random
from tests.reference import optimizers as reference

# A case, and where one launch does not do: model -> launches. 391 tensors of amsgrad with rates of their own take
# 391 x (48 + 36) bytes, more than the 32 KB that a launch carries.
CASES: list[tuple[Case, dict[str, int]]] = [
    (Case("SGD", {"momentum": 0.9, "weight_decay": 0.05}), {}),
    (Case("Adam", {"weight_decay": 0.05}), {}),
    (Case("AdamW", {"weight_decay": 0.3}), {}),
    (Case("Adamax", {"weight_decay": 0.05}), {}),
    (Case("Lion", {"weight_decay": 0.3}), {}),
    (Case("Adam", {"amsgrad": True, "weight_decay": 0.05}), {"BERT-large": 2}),
]
# Bytes that a launch carries, besides a few numbers, and those of a tensor with a rate of its own, in float32.
CARRIES = 32764 - 40
# Where the device counts steps or has the rates, a launch before the others prepares up to 670 tensors with rates of
# their own, for the update of which their operands alone are carried.
LAUNCHES_WITH_NUMBERS_OF_THE_DEVICE = 2
BYTES = {"SGD": 32 + 24, "Adam": 40 + 36, "AdamW": 40 + 36, "Adamax": 40 + 24, "Lion": 32 + 28}


def shrunk(shapes: Shapes) -> Shapes:
    """As many tensors of as many dimensions: what a launch carries does not go by their sizes."""
    return [tuple(math.ceil(size / 16) for size in shape) for shape in shapes]


def parameters(shapes: Shapes, device: torch.device) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(random(shape, torch.float32, generator).to(device)) for shape in shapes]
    for param in params:
        param.grad = random(tuple(param.shape), torch.float32, generator).to(device)
    return params


def launches_of_a_step(case: Case, shapes: Shapes, device: torch.device, **options: bool) -> int:
    """With a group per tensor and unequal rates."""
    return launches_of_a_second_step(case.fast(groups(parameters(shapes, device)), **options))


def launches_of_a_second_step(optimizer: torch.optim.Optimizer) -> int:
    optimizer.step()
    before = extension.launches()
    optimizer.step()
    return extension.launches() - before


def overlapping_launches_of(optimizer: torch.optim.Optimizer) -> int:
    """Of a step."""
    before = extension.overlapping_launches()
    optimizer.step()
    return extension.overlapping_launches() - before


def launches_beside_the_reference(case: Case, params: list[nn.Parameter], grouped: list[dict[str, object]]) -> int:
    """Of a first step, which gives the reference's numbers, as the second one does."""
    optimizer = case.fast(grouped)
    expected = [param.detach().clone() for param in params]
    states = [reference.new_state(case.name, p, g) for p, g in zip(expected, optimizer.param_groups, strict=True)]
    launches = []
    for _ in range(2):
        before = extension.launches()
        optimizer.step()
        launches.append(extension.launches() - before)
        for param, p, state, group in zip(params, expected, states, optimizer.param_groups, strict=True):
            reference.step(case.name, p, param.grad, state, group)
            assert_equal(param.detach(), p)
    return launches[0]


emulated = pytest.mark.skipif(
    NUMBERS_ON_DEVICE or KERNELS != "cuda",
    reason="launches are counted where kernels for CUDA are emulated; see LERAC_FAST_EMULATE_CUDA in CMakeLists.txt",
)
with_numbers_of_the_device = pytest.mark.skipif(
    not NUMBERS_ON_DEVICE or KERNELS != "cuda", reason="about emulated kernels that read what only a device knows"
)
all_launch_cases = pytest.mark.parametrize(("case", "most"), CASES, ids=str)


@emulated
@pytest.mark.parametrize("model", ["ResNet-18", "BERT-large"])
@all_launch_cases
def test_one_launch(case: Case, most: dict[str, int], model: str) -> None:
    shapes = shrunk(MODELS[model]())
    assert len(shapes) == {"ResNet-18": 62, "BERT-large": 391}[model]
    assert launches_of_a_step(case, shapes, torch.device("cpu")) == most.get(model, 1)


@emulated
@pytest.mark.parametrize("case", [case for case, _ in CASES if "amsgrad" not in case.options], ids=str)
def test_what_one_launch_cannot_carry(case: Case) -> None:
    """3000 tensors with rates of their own: as many launches as needed, and the same numbers."""
    params = parameters([(1 + i % 7,) for i in range(3000)], torch.device("cpu"))
    launches = launches_beside_the_reference(case, params, groups(params, lr=0.0002))
    assert launches == math.ceil(3000 / (CARRIES // BYTES[case.name]))


@emulated
def test_one_rate_for_many_tensors_is_carried_once() -> None:
    """More tensors than would fit with a rate of their own."""
    assert launches_of_a_second_step(Case("Adam").fast(parameters([(3,)] * 800, torch.device("cpu")))) == 1


@with_numbers_of_the_device
@pytest.mark.parametrize("model", ["ResNet-18", "BERT-large"])
@pytest.mark.parametrize("case", [case for case, _ in CASES if case.name not in ("SGD", "Lion")], ids=str)
def test_numbers_of_the_device_take_one_launch_more(case: Case, model: str) -> None:
    """Whatever the rates, and where tensors with and without weight decay take turns."""
    params = parameters(shrunk(MODELS[model]()), torch.device("cpu"))
    grouped = groups(params)
    for group in grouped[::2]:
        group["weight_decay"] = 0.0
    assert launches_of_a_second_step(case.fast(grouped)) == LAUNCHES_WITH_NUMBERS_OF_THE_DEVICE


@pytest.mark.skipif(KERNELS != "cuda", reason="about emulated kernels")
@pytest.mark.parametrize("model", ["ResNet-18", "BERT-large"])
def test_what_overlaps(model: str) -> None:
    """Of the two launches of a step whose numbers the device has, the second; nothing else."""
    optimizer = Case("AdamW").fast(groups(parameters(shrunk(MODELS[model]()), torch.device("cpu"))))
    assert overlapping_launches_of(optimizer) == int(NUMBERS_ON_DEVICE)
    with launches_apart():
        assert overlapping_launches_of(optimizer) == 0


@with_numbers_of_the_device
@pytest.mark.parametrize("kinds", [1, 3, 7])
def test_what_one_launch_cannot_prepare(kinds: int) -> None:
    """3000 tensors with rates of their own and so many other numbers: the same numbers as the reference's."""
    case = Case("AdamW", {"weight_decay": 0.3})
    params = parameters([(1 + i % 7,) for i in range(3000)], torch.device("cpu"))
    grouped = groups(params, lr=0.0002)
    for i, group in enumerate(grouped):
        group["weight_decay"] = 0.1 * (i % kinds)
    assert launches_beside_the_reference(case, params, grouped) > 2
