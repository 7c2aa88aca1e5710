"""The curricula together, under FSDP2 and DistributedDataParallel: as the same training in one process."""

import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint as computed_again

from lerac_fast import CBS, DataParameters, LeRaC, Tokens, layer_groups, layer_order, signal_to_noise
from lerac_fast.lerac.snr import snr_ratios
from lerac_fast.optim import SGD
from tests.optim.distributed.tensors import full
from tests.processes import Processes

CLASSES, INSTANCES, EXAMPLES, STEPS = 3, 21, 8, 4
SMOOTHING: dict[str, Any] = {
    "decay": 0.8,
    "every": 1,
    "where": {r"stem|blocks\.\d\.conv": None, "mix": Tokens()},
}
FSDP2: dict[str, dict[str, Any]] = {
    "FSDP2": {},
    "FSDP2, gathered": {"reshard_after_forward": False},
    "FSDP2, bfloat16": {"mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32)},
}


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(1, channels), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.conv(self.norm(x)))


class Net(nn.Module):
    """A batch norm would see other batches than in one process."""

    def __init__(self, channels: int = 4, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        self.stem = nn.Conv2d(2, channels, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(2))
        self.mix, self.head = nn.Linear(channels, channels), nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = computed_again(block, x, use_reentrant=False) if self.recompute else block(x)
        tokens = torch.tanh(self.mix(x.flatten(2).mT))
        return self.head(tokens.mean(1))


def net(**options: Any) -> Net:
    torch.manual_seed(0)
    return Net(**options).double()


def examples(step: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(EXAMPLES, 2, 6, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    return images, targets, torch.randint(INSTANCES, (EXAMPLES,), generator=generator)


@cache
def depths() -> dict[str, int]:
    return layer_order(net(), example_inputs=examples(0)[0])


class Training:
    """By LeRaC, CBS and data parameters, each of them at work in all of the steps but for the last."""

    def __init__(self, model: nn.Module, smoothing: CBS, criterion: DataParameters) -> None:
        self.model, self.smoothing, self.criterion = model, smoothing, criterion
        groups = layer_groups(model, order=depths())
        self.optimizer = SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
        self.curriculum = LeRaC(self.optimizer, total_iters=STEPS - 1, min_lr=1e-3)

    def run(self, steps: Iterable[int] = range(STEPS), rank: int = 0, ranks: int = 1) -> "Training":
        self.losses = []
        for step in steps:
            images, targets, indices = (tensor.chunk(ranks)[rank] for tensor in examples(step))
            groups = self.optimizer.param_groups
            assert len({group["lr"] for group in groups}) == (1 if step == STEPS - 1 else len(groups))
            assert self.smoothing.active
            loss = self.criterion(self.model(images), targets, indices)
            loss.backward()
            self.optimizer.step()
            self.criterion.step()
            self.optimizer.zero_grad()
            self.curriculum.step()
            self.smoothing.step()
            self.losses.append(loss.detach())
        return self

    def results(self) -> list[Tensor]:
        tensors = [*self.model.parameters(), *self.criterion.buffers()]
        return [torch.stack(self.losses), *(full(tensor.detach()) for tensor in tensors)]

    def state(self) -> dict[str, Any]:
        return {
            "model": get_model_state_dict(self.model),
            "optimizer": get_optimizer_state_dict(self.model, self.optimizer),
            **{name: getattr(self, name).state_dict() for name in ("criterion", "curriculum", "smoothing")},
        }

    def load(self, state: dict[str, Any]) -> None:
        set_model_state_dict(self.model, state["model"])
        set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"])
        for name in ("criterion", "curriculum", "smoothing"):
            getattr(self, name).load_state_dict(state[name])


def wrapped(order: Sequence[str], model: nn.Module) -> tuple[nn.Module, CBS]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    smoothing = None
    for what in order:
        if what == "CBS":
            smoothing = CBS(model, **SMOOTHING)
            assert smoothing.sites == ("stem", "blocks.0.conv", "blocks.1.conv", "mix")
        elif what == "checkpointing":
            apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, Block | nn.Linear))
        elif what == "DDP":
            model = DistributedDataParallel(model)
        else:
            for module in (model.stem, *model.blocks, model):
                fully_shard(module, mesh=mesh, **FSDP2[what])
    assert smoothing is not None
    return model, smoothing


@cache
def alone(**options: Any) -> list[Tensor]:
    """The same in this process."""
    assert not dist.is_initialized()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the others
    model = net(**options)
    results = Training(model, CBS(model, **SMOOTHING), DataParameters(CLASSES, INSTANCES)).run().results()
    torch.set_num_threads(threads)
    return results


def spread(order: Sequence[str], shard: bool = True, **options: Any) -> Training:
    return Training(*wrapped(order, net(**options)), DataParameters(CLASSES, INSTANCES, shard=shard))


def _compare(
    rank: int, expected: list[Tensor], order: Sequence[str], same: bool, shard: bool, options: dict[str, Any]
) -> None:
    """
    Args:
        same: all ranks train on the same batches, so that sums over ranks are exact, and every bit must be as in one
            process. Otherwise each has its share: sums are in another order then, and temperatures have float32.
    """
    ranks = dist.get_world_size()
    training = spread(order, shard, **options)
    if same:
        return assert_close(training.run().results(), expected, 0.0)
    found = training.run(range(STEPS), rank, ranks).results()
    dist.all_reduce(found[0])
    return assert_close([found[0] / ranks, *found[1:]], expected, 1e-6)


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for tensor, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, wanted, rtol=tolerance, atol=tolerance)


ORDERS = [
    ("CBS", "FSDP2"),
    ("FSDP2", "CBS"),
    ("FSDP2, gathered", "CBS"),
    ("CBS", "checkpointing", "FSDP2"),
    ("checkpointing", "CBS", "FSDP2"),
    ("checkpointing", "FSDP2", "CBS"),
    ("FSDP2", "checkpointing", "CBS"),
    ("FSDP2", "CBS", "checkpointing"),
    ("CBS", "FSDP2", "checkpointing"),
    ("CBS", "DDP"),
    ("DDP", "CBS"),
    ("checkpointing", "DDP", "CBS"),
    ("CBS", "checkpointing", "DDP"),
]


@pytest.mark.parametrize("same", [True, False], ids=["the same batches", "shares of a batch"])
@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_two_processes(two: Processes, order: Sequence[str], same: bool) -> None:
    two.run(_compare, alone(), order, same, True, {})


@pytest.mark.parametrize("order", [("FSDP2", "CBS"), ("CBS", "DDP")], ids=" then ".join)
def test_layers_that_are_computed_again(two: Processes, order: Sequence[str]) -> None:
    options = {"recompute": True}
    two.run(_compare, alone(**options), order, True, False, options)


def test_four_processes_with_uneven_parts(four: Processes) -> None:
    options = {"channels": 5}
    for same in (True, False):
        four.run(_compare, alone(**options), ("CBS", "checkpointing", "FSDP2"), same, True, options)


def _mixed_precision(rank: int) -> None:
    """Maps in bfloat16, of parameters in float64."""
    orders = (("CBS", "FSDP2, bfloat16"), ("FSDP2, bfloat16", "CBS"))
    found, expected = (spread(order).run(range(STEPS), rank, 2).results() for order in orders)
    assert_close(found, expected, 0.0)


def test_smoothing_in_mixed_precision(two: Processes) -> None:
    two.run(_mixed_precision)


def _first_half(_: int, folder: str) -> None:
    checkpoint.save(spread(("CBS", "FSDP2")).run(range(2)).state(), checkpoint_id=folder)


def _second_half(_: int, folder: str, order: Sequence[str], expected: list[Tensor]) -> None:
    training = spread(order)
    state = training.state()
    checkpoint.load(state, checkpoint_id=folder)
    training.load(state)
    losses, *found = training.run(range(2, STEPS)).results()
    assert_close([losses, *found], [expected[0][2:], *expected[1:]], 0.0)


@pytest.mark.parametrize("order", [("FSDP2", "CBS"), ("CBS", "checkpointing", "DDP")], ids=" then ".join)
def test_two_processes_begin_and_four_go_on(two: Processes, four: Processes, order: Sequence[str]) -> None:
    """On the same batches, so that every bit is as in one process that goes through."""
    with tempfile.TemporaryDirectory() as folder:
        two.run(_first_half, folder)
        four.run(_second_half, folder, order, alone())


def _measured(_: int) -> None:
    """Under DDP as in one process; and before `fully_shard`, for groups that are made after it."""
    model, inputs = net(), examples(0)[0]
    signals = signal_to_noise(model, inputs)
    assert signal_to_noise(DistributedDataParallel(net()), inputs) == signals
    expected = LeRaC.from_snr(SGD(layer_groups(model, example_inputs=inputs), lr=0.1), 3, model, inputs)
    fully_shard(model)
    optimizer = SGD(layer_groups(model, example_inputs=inputs), lr=0.1)
    with pytest.raises(ValueError, match="the FSDPNet is sharded, and no process holds the weights"):
        LeRaC.from_snr(optimizer, 3, model, inputs)
    ratios = snr_ratios(signals, optimizer.param_groups)
    assert LeRaC(optimizer, 3, initial_lrs=[0.1 * ratio for ratio in ratios]).ratios == pytest.approx(expected.ratios)


def test_rates_by_signal_to_noise(two: Processes) -> None:
    two.run(_measured)
