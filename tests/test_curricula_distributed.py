"""The curricula together, under FSDP2 and DistributedDataParallel: as the same training in one process."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from lerac_fast import CBS, DataParameters, LeRaC, Tokens, layer_groups, layer_order, signal_to_noise
from lerac_fast.lerac.snr import snr_ratios
from lerac_fast.optim import SGD
from tests.optim.distributed.processes import Processes, shared
from tests.optim.distributed.tensors import full

CLASSES, INSTANCES, EXAMPLES = 3, 21, 8
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


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    yield from shared(2)


@pytest.fixture(scope="module")
def four() -> Iterator[Processes]:
    yield from shared(4)


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
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
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


def train(model: nn.Module, smoothing: CBS, criterion: DataParameters, rank: int = 0, ranks: int = 1) -> list[Tensor]:
    """By LeRaC, CBS and data parameters, each of them at work in all of the steps but for the last."""
    groups = layer_groups(model, order=depths())
    optimizer = SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
    curriculum = LeRaC(optimizer, total_iters=3, min_lr=1e-3)
    losses = []
    for step in range(4):
        images, targets, indices = (tensor.chunk(ranks)[rank] for tensor in examples(step))
        assert len({group["lr"] for group in optimizer.param_groups}) == (1 if step == 3 else len(groups))
        assert smoothing.active
        loss = criterion(model(images), targets, indices)
        loss.backward()
        optimizer.step()
        criterion.step()
        optimizer.zero_grad()
        curriculum.step()
        smoothing.step()
        losses.append(loss.detach())
    return losses


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
    model, criterion = net(**options), DataParameters(CLASSES, INSTANCES)
    losses = train(model, CBS(model, **SMOOTHING), criterion)
    torch.set_num_threads(threads)
    return [torch.stack(losses), *(p.detach() for p in model.parameters()), *criterion.buffers()]


def _compare(
    rank: int, expected: list[Tensor], order: Sequence[str], same: bool, shard: bool, options: dict[str, Any]
) -> None:
    """
    Args:
        same: all ranks train on the same batches, so that sums over ranks are exact, and every bit must be as in one
            process. Otherwise each has its share: sums are in another order then, and temperatures have float32.
    """
    model, smoothing = wrapped(order, net(**options))
    criterion = DataParameters(CLASSES, INSTANCES, shard=shard)
    losses = torch.stack(train(model, smoothing, criterion, *((0, 1) if same else (rank, dist.get_world_size()))))
    if not same:
        dist.all_reduce(losses)
        losses /= dist.get_world_size()
    found = [losses, *(full(p.detach()) for p in model.parameters()), *map(full, criterion.buffers())]
    tolerance = 0.0 if same else 1e-6
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
    trained = []
    for order in (("CBS", "FSDP2, bfloat16"), ("FSDP2, bfloat16", "CBS")):
        model, smoothing = wrapped(order, net())
        criterion = DataParameters(CLASSES, INSTANCES, shard=True)
        trained.append([torch.stack(train(model, smoothing, criterion, rank, 2)), *map(full, model.parameters())])
    for tensors in zip(*trained, strict=True):
        assert torch.equal(*tensors)


def test_smoothing_in_mixed_precision(two: Processes) -> None:
    two.run(_mixed_precision)


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
