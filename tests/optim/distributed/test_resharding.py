"""Checkpoints are saved on some processes, sharded and grouped in one way; others, in another way, go on with them."""

import functools
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import lerac_fast.optim
from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import regroup
from tests.optim.cases import Case, assert_equal, random
from tests.optim.distributed.tensors import full
from tests.optim.distributed.test_training import backward, model, shard
from tests.processes import IS_TORCH_2_9, Processes

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "scale.md"
FULL = StateDictOptions(full_state_dict=True)
FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
FORMS = ["flattened", "nested", "whole"]

Values = dict[str, tuple[Tensor, dict[str, Any]]]  # of each parameter, and of its state


@functools.cache
def recipes() -> dict[str, Any]:
    """save, load, load_states and load_from_rank_0, as the guide has them."""
    names: dict[str, Any] = {"regroup": regroup}
    for block in re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE):
        if "def load" in block:
            exec(compile(block, str(GUIDE), "exec"), names)
    return names


class Layout(NamedTuple):
    processes: int
    kind: str
    groups: str

    def __str__(self) -> str:
        return f"{self.processes} {self.kind} {self.groups}"


class Training(NamedTuple):
    """What is trained; and which parameters are frozen until the checkpoint, and which from then on."""

    case: Case
    frozen_first: tuple[str, ...] = ()
    frozen_then: tuple[str, ...] = ()

    @property
    def is_strict(self) -> bool:
        return not (self.frozen_first or self.frozen_then)


TRAININGS = [
    Training(Case("AdamW", {"weight_decay": 0.3})),
    Training(Case("AdamW", {"weight_decay": 0.3}), frozen_first=("0.up.weight", "2.bias"), frozen_then=("1.weight",)),
    Training(Case("SGD", {"momentum": 0.9, "dampening": 0.3}), frozen_first=("0.up.weight", "2.bias")),
    Training(Case("SGD", {"weight_decay": 0.05})),  # without states
]


def freeze(net: nn.Module, names: Iterable[str]) -> nn.Module:
    """Before the model is divided, and after: the tensor parallelism of torch 2.9 makes all parameters trainable."""
    for name in names:
        net.get_parameter(name).requires_grad_(False)
    return net


def build(case: Case, layout: Layout, frozen: Iterable[str]) -> tuple[nn.Module, torch.optim.Optimizer]:
    net = freeze(model(), frozen)
    if layout.kind == "FSDP2":
        net = shard(net, init_device_mesh("cpu", (layout.processes,)))  # type: ignore[arg-type]
    elif layout.kind == "FSDP2 with TP":
        mesh = init_device_mesh("cpu", (2, layout.processes // 2), mesh_dim_names=("data", "tensor"))
        parallelize_module(net, mesh["tensor"], {"0.up": ColwiseParallel(), "0.down": RowwiseParallel()})
        net = shard(freeze(net, frozen), mesh["data"])  # type: ignore[arg-type]
    elif layout.kind == "DDP":
        net = DistributedDataParallel(net)
    return net, optimizer_of(net, case, layout.groups)


def optimizer_of(net: nn.Module, case: Case, groups: str) -> torch.optim.Optimizer:
    if groups == "one group":
        return case.fast(net.parameters())
    optimizer = case.fast(layer_groups(net))
    for group in optimizer.param_groups:
        group["lr"] *= 1 + group["depth"] / 3
    return optimizer


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """With gradients that are the same on any number of processes, to the last bit."""
    for step in steps:
        numbers = torch.Generator().manual_seed(step)
        for param in net.parameters():
            gradient = random(tuple(param.shape), param.dtype, numbers)
            if param.requires_grad:
                sharded = isinstance(param, DTensor)
                param.grad = distribute_tensor(gradient, param.device_mesh, param.placements) if sharded else gradient
        optimizer.step()
        optimizer.zero_grad()


def values(net: nn.Module, optimizer: torch.optim.Optimizer) -> Values:
    return {
        name.removeprefix("module."): (
            full(param.detach()),
            {key: full(value) for key, value in optimizer.state.get(param, {}).items()},
        )
        for name, param in net.named_parameters()
    }


def _save(rank: int, folder: str, layout: Layout, trainings: list[Training]) -> None:
    for index, training in enumerate(trainings):
        net, optimizer = build(training.case, layout, training.frozen_first)
        train(net, optimizer, range(3))
        place = f"{folder}/{index}"
        recipes()["save"](f"{place}/flattened", net, optimizer)
        nested = {"model": get_model_state_dict(net), "optimizer": get_optimizer_state_dict(net, optimizer)}
        checkpoint.save(nested, checkpoint_id=f"{place}/nested")
        whole = get_model_state_dict(net, options=FULL), get_optimizer_state_dict(net, optimizer, options=FULL)
        if rank == 0:
            torch.save(whole, f"{place}/whole")


def _go_on(_: int, folder: str, layout: Layout, trainings: list[Training]) -> list[list[Values]]:
    """By training and form."""
    results = []
    for index, training in enumerate(trainings):
        results.append([])
        for form in FORMS:
            net, optimizer = build(training.case, layout, training.frozen_then)
            train(net, optimizer, range(7, 8))  # its states and gradients are not those that are loaded
            for param in net.parameters():
                param.grad = torch.ones_like(param) if param.requires_grad else None
            place, strict = f"{folder}/{index}/{form}", training.is_strict
            if form == "flattened":
                recipes()["load"](place, net, optimizer, strict=strict)
            elif form == "nested":
                recipes()["load_states"](place, net, optimizer)
            else:
                whole_model, states = torch.load(place, mmap=True)
                set_model_state_dict(net, whole_model, options=FULL)
                moved = regroup(states, optimizer, names=net.named_parameters(), strict=strict)
                optimizer.load_state_dict(moved)
            train(net, optimizer, range(3, 6))
            results[-1].append(values(net, optimizer))
    return results


def uninterrupted(training: Training, first: Layout, then: Layout) -> Values:
    net, optimizer = build(training.case, first._replace(kind="one process"), training.frozen_first)
    train(net, optimizer, range(3))
    for name, param in net.named_parameters():
        param.requires_grad_(name not in training.frozen_then)
    other = optimizer_of(net, training.case, then.groups)
    for param in net.parameters():
        if param in optimizer.state and param.requires_grad:
            other.state[param] = optimizer.state[param]
    train(net, other, range(3, 6))
    return values(net, other)


def assert_same(found: Values, expected: Values, frozen: tuple[str, ...]) -> None:
    """What is frozen may keep a state: where the file is of whole tensors and a group has the parameter."""
    assert found.keys() == expected.keys()
    for name, (param, state) in expected.items():
        assert_equal(found[name][0], param)
        if name in frozen:
            continue
        assert found[name][1].keys() == state.keys()
        for key, value in state.items():
            assert_equal(torch.as_tensor(found[name][1][key]), torch.as_tensor(value))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning")
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (Layout(2, "FSDP2", "one group"), Layout(4, "FSDP2", "layers")),
        (Layout(4, "FSDP2", "layers"), Layout(2, "DDP", "one group")),
        (Layout(2, "DDP", "one group"), Layout(1, "one process", "layers")),
        (Layout(1, "one process", "layers"), Layout(2, "FSDP2", "one group")),
        (Layout(2, "FSDP2", "layers"), Layout(1, "one process", "layers")),
        (Layout(1, "one process", "one group"), Layout(4, "FSDP2 with TP", "layers")),
        (Layout(4, "FSDP2 with TP", "layers"), Layout(2, "FSDP2", "one group")),
    ],
    ids=str,
)
def test_training_goes_on_to_the_last_bit(
    two: Processes, four: Processes, tmp_path: Path, first: Layout, then: Layout
) -> None:
    def run(function: Any, layout: Layout, *args: Any) -> Any:
        pools = {2: two, 4: four}
        return pools[layout.processes].run(function, *args) if layout.processes > 1 else [function(0, *args)]

    trainings = TRAININGS[1:2] if "with TP" in first.kind + then.kind else TRAININGS
    for index in range(len(trainings)):
        (tmp_path / str(index)).mkdir()
    run(_save, first, str(tmp_path), first, trainings)
    results = run(_go_on, then, str(tmp_path), then, trainings)
    for training, *forms in zip(trainings, *results, strict=True):
        expected = uninterrupted(training, first, then)
        for found in (values for of_rank in forms for values in of_rank):
            assert_same(found, expected, training.frozen_then)


def _set(rank: int, folder: str, layout: Layout, training: Training) -> list[Values]:
    """By torch's function: states that are sharded, of other groups; and whole ones, which rank 0 alone has."""
    net, optimizer = build(training.case, layout, training.frozen_then)
    recipes()["load"](f"{folder}/0/flattened", net, optimizer, strict=False)
    states = get_optimizer_state_dict(net, optimizer, options=FLAT)
    other = optimizer_of(net, training.case, "one group")
    moved = regroup(states, other, names=net.named_parameters(), strict=False)
    set_optimizer_state_dict(net, other, moved, options=StateDictOptions(strict=False))
    optimizer.state = other.state  # with the rates of the layers
    results = [(net, optimizer)]

    net, optimizer = build(training.case, layout, training.frozen_then)
    whole_model, states = torch.load(f"{folder}/0/whole")
    set_model_state_dict(net, whole_model, options=FULL)
    path = f"{folder}/of rank {rank}"
    if rank == 0:
        torch.save(states, path)
    recipes()["load_from_rank_0"](path, net, optimizer, strict=False)
    for name in training.frozen_first:  # as the guide has it
        del optimizer.state[net.get_parameter(name)]
    results.append((net, optimizer))
    for each in results:
        train(*each, range(3, 6))
    return [values(*each) for each in results]


def test_torchs_own_function_takes_what_regroup_returns(two: Processes, tmp_path: Path) -> None:
    training = TRAININGS[0 if IS_TORCH_2_9 else 1]  # torch 2.9's raises a KeyError where a parameter has no state
    first, then = Layout(2, "DDP", "one group"), Layout(2, "FSDP2", "layers")
    (tmp_path / "0").mkdir()
    two.run(_save, str(tmp_path), first, [training])
    expected = uninterrupted(training, first, then)
    for found in (values for of_rank in two.run(_set, str(tmp_path), then, training) for values in of_rank):
        assert_same(found, expected, training.frozen_then)


def _fsdp1(rank: int, options: StateDictOptions) -> None:
    """FullyShardedDataParallel: one group, a group for each layer of it, and of a whole model."""
    warnings.filterwarnings("ignore", module=r"torch\.distributed")  # it calls what it has deprecated
    net = FullyShardedDataParallel(model(), use_orig_params=True, device_id=torch.device("cpu"))
    writer = torch.optim.AdamW(net.parameters())
    backward(net, 0, rank, 2)
    writer.step()
    whole = get_optimizer_state_dict(net, writer, options=FULL)["state"]
    reader = lerac_fast.optim.AdamW(layer_groups(net))
    moved = regroup(get_optimizer_state_dict(net, writer, options=options), reader)
    set_optimizer_state_dict(net, reader, moved, options=StateDictOptions(full_state_dict=options.full_state_dict))
    assert [group["param_names"] for group in reader.param_groups] == [g["param_names"] for g in layer_groups(model())]
    again = get_optimizer_state_dict(net, reader, options=FULL)
    twin = model()
    of_twin = lerac_fast.optim.AdamW(layer_groups(twin))
    of_twin.load_state_dict(regroup(again, of_twin))
    for name, param in twin.named_parameters():
        for states in (again["state"][name], of_twin.state[param]):
            assert states.keys() == whole[name].keys()
            for key, value in whole[name].items():
                assert_equal(states[key], value)


@pytest.mark.parametrize("options", [StateDictOptions(), FLAT, FULL], ids=["nested", "flattened", "whole"])
def test_fully_sharded_data_parallel(two: Processes, options: StateDictOptions) -> None:
    two.run(_fsdp1, options)


def _with_a_curriculum(_: int, folder: str) -> None:
    """Its rates go on whether its state is loaded before that of the optimizer or after it."""
    layout, case = Layout(2, "FSDP2", "layers"), Case("AdamW")

    def start() -> tuple[nn.Module, torch.optim.Optimizer, LeRaC]:
        net, optimizer = build(case, layout, ())
        return net, optimizer, LeRaC(optimizer, 6, min_lr=1e-5)

    def go_on(net: nn.Module, optimizer: torch.optim.Optimizer, curriculum: LeRaC, steps: range) -> list[Any]:
        rates = []
        for step in steps:
            rates.append([group["lr"] for group in optimizer.param_groups])
            train(net, optimizer, range(step, step + 1))
            curriculum.step()
        return rates

    first = start()
    go_on(*first, range(3))
    recipes()["save"](folder, *first[:2])
    saved = first[2].state_dict()
    expected = go_on(*first, range(3, 8))
    for is_before in (True, False):
        net, optimizer, curriculum = start()
        if is_before:
            curriculum.load_state_dict(saved)
        recipes()["load"](folder, net, optimizer)
        if not is_before:
            curriculum.load_state_dict(saved)
        assert go_on(net, optimizer, curriculum, range(3, 8)) == expected
        for param, twin in zip(net.parameters(), first[0].parameters(), strict=True):
            assert_equal(full(param.detach()), full(twin.detach()))


def test_a_curriculum_goes_on(two: Processes, tmp_path: Path) -> None:
    two.run(_with_a_curriculum, str(tmp_path / "saved"))
