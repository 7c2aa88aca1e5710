"""Stages of torch.distributed.pipelining, each with an optimizer of its own, train as the whole model does."""

import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe, SplitPoint, pipeline

from lerac_fast import LeRaC, layer_groups, layer_order
from lerac_fast.optim import AdamW, check_ranks
from tests.optim.distributed.tensors import full
from tests.optim.distributed.test_resharding import recipes
from tests.processes import IS_TORCH_2_9, Processes

pytestmark = pytest.mark.skipif(IS_TORCH_2_9, reason="between its stages gloo ends the processes, whatever they train")

CUTS = ["head", "norm", "second"]  # the first layer of the second stage: its norm's weights may be in the first
STEPS, MICROBATCHES = 6, 2
X, Y = torch.linspace(-1, 1, 32).view(8, 4), torch.linspace(1, 0, 16).view(8, 2)
CPU = torch.device("cpu")

Rates = list[dict[str, float]]  # of each parameter, step by step
Values = dict[str, Tensor]


class Chain(nn.Module):
    """Registered from its output to its input. A stage has some of its layers."""

    layers = ("first", "second", "norm", "third", "head")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(8, 2)
        self.third = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 8)
        self.first = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.layers:
            if (layer := getattr(self, name)) is not None:
                x = layer(x).tanh()
        return x


def traced(cut: str, number: int, mesh: dist.DeviceMesh) -> tuple[nn.Module, PipelineStage]:
    pipe = pipeline(Chain(), mb_args=(X.chunk(MICROBATCHES)[0],), split_spec={cut: SplitPoint.BEGINNING})
    stage = pipe.build_stage(number, CPU, mesh["stages"].get_group())
    return stage.submod, stage


def by_hand(cut: str, number: int, mesh: dist.DeviceMesh) -> tuple[nn.Module, PipelineStage]:
    module, at = Chain(), Chain.layers.index(cut)
    for name in Chain.layers[:at] if number else Chain.layers[at:]:
        setattr(module, name, None)
    if mesh["data"].size() > 1:
        fully_shard(module, mesh=mesh["data"])
    return module, PipelineStage(module, number, 2, CPU, group=mesh["stages"].get_group())


def rates_of(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    return {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}


def values_of(module: nn.Module) -> Values:
    return {name: full(parameter.detach()).clone() for name, parameter in module.named_parameters()}


def whole() -> tuple[Rates, Chain, AdamW]:
    model = Chain()
    optimizer = AdamW(layer_groups(model, example_inputs=X), lr=0.1)
    curriculum = LeRaC(optimizer, total_iters=4, min_lr=1e-4)
    rates = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        for x, y in zip(X.chunk(MICROBATCHES), Y.chunk(MICROBATCHES), strict=True):
            nn.functional.mse_loss(model(x), y).div(MICROBATCHES).backward()
        rates.append(rates_of(optimizer))
        optimizer.step()
        curriculum.step()
    return rates, model, optimizer


def _train(_: int, kind: str, cut: str, folder: Path) -> tuple[Rates, Values]:
    order = layer_order(Chain(), example_inputs=X)
    mesh = dist.init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("stages", "data"))
    number = mesh["stages"].get_local_rank()
    module, stage = {"traced": traced, "by hand": by_hand}[kind](cut, number, mesh)
    names = dict(module.named_parameters())
    groups = layer_groups(module, order={name: depth for name, depth in order.items() if name in names})
    optimizer = AdamW(groups, lr=0.1)
    check_ranks(optimizer, mesh["data"].get_group())
    curriculum = LeRaC(optimizer, total_iters=4, min_lr=1e-4, depths=order.values())
    schedule = ScheduleGPipe(stage, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    rates = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        schedule.step(target=Y) if number else schedule.step(X)
        rates.append(rates_of(optimizer))
        optimizer.step()
        curriculum.step()
    recipes()["save"](folder, module, optimizer)
    return rates, values_of(module)


def check_trained(of_ranks: list[tuple[Rates, Values]], folder: Path) -> None:
    """As in one process; and one process, with one group, takes up what the stages have saved."""
    (first_rates, first), (second_rates, second) = of_ranks[0], of_ranks[-1]
    rates, model, optimizer = whole()
    assert first.keys().isdisjoint(second)
    assert [one | other for one, other in zip(first_rates, second_rates, strict=True)] == rates
    torch.testing.assert_close(first | second, values_of(model))
    loaded = Chain()
    of_one_group = AdamW(loaded.named_parameters())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is .*unavailable")
        recipes()["load"](folder, loaded, of_one_group)
    for name, value in (first | second).items():
        assert torch.equal(loaded.get_parameter(name), value)
    for old, new in zip(model.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(of_one_group.state[new], optimizer.state[old])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", ["traced", "by hand"])
def test_stages_train_at_the_rates_of_the_whole_model(two: Processes, kind: str, cut: str, tmp_path: Path) -> None:
    check_trained(two.run(_train, kind, cut, tmp_path), tmp_path)


def test_sharded_stages_do_too(four: Processes, tmp_path: Path) -> None:
    check_trained(four.run(_train, "by hand", "norm", tmp_path), tmp_path)
