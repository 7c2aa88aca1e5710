"""LeRaC under Accelerate: k is in steps of the optimizer for any number of processes, and rates are a plain loop's."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LRScheduler, SequentialLR

from lerac_fast import LeRaC
from lerac_fast.optim import SGD
from tests.integrations.launching import cpu_for_gpus, set_environment
from tests.processes import Processes

accelerate = pytest.importorskip("accelerate")
from accelerate.state import AcceleratorState, GradientState  # noqa: E402

K, STEPS = 4, 6

Create = Callable[[torch.optim.Optimizer], LRScheduler]
Rates = list[list[float]]


def accelerator(rank: int, **options: Any) -> Any:
    set_environment(rank, distributed.get_world_size())
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return accelerate.Accelerator(cpu="fsdp_plugin" not in options, **options)


def parts() -> tuple[nn.Module, SGD]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    groups = [{"params": [*layer.parameters()], "depth": i} for i, layer in enumerate((model[0], model[2]))]
    return model, SGD(groups, lr=0.1, momentum=0.9)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def curriculum(optimizer: torch.optim.Optimizer) -> LeRaC:
    return LeRaC(optimizer, K, min_lr=1e-6)


def cosine(optimizer: torch.optim.Optimizer) -> LRScheduler:
    return CosineAnnealingLR(optimizer, 2 * STEPS)


def chain(optimizer: torch.optim.Optimizer) -> LRScheduler:
    return ChainedScheduler([curriculum(optimizer), cosine(optimizer)], optimizer)


def sequence(optimizer: torch.optim.Optimizer) -> LRScheduler:
    return SequentialLR(optimizer, [curriculum(optimizer), cosine(optimizer)], [K])


def second(optimizer: torch.optim.Optimizer) -> LRScheduler:
    return SequentialLR(optimizer, [cosine(optimizer), curriculum(optimizer)], [2])


def plain_loop(create: Create, calls: int = 1) -> Rates:
    """The rates of the optimizer's steps, where the scheduler is called so often after each."""
    _, optimizer = parts()
    scheduler = create(optimizer)
    table = []
    for _ in range(STEPS):
        table.append(rates(optimizer))
        optimizer.step()
        for _ in range(calls):
            scheduler.step()
    return table


class Training:
    def __init__(self, rank: int, create: Create = curriculum, accumulated: int = 2, **options: Any) -> None:
        self.accumulated = accumulated
        self.accelerator = accelerator(rank, gradient_accumulation_steps=accumulated, **options)
        model, optimizer = parts()
        self.own = create(optimizer)
        self.model, self.optimizer, self.prepared = self.accelerator.prepare(model, optimizer, self.own)

    def run(self, steps: int, by_hand: bool = False) -> Rates:
        """By hand, Accelerate's scheduler is left alone."""
        table = []
        for batch in range(steps * self.accumulated):
            if batch % self.accumulated == 0:
                table.append(rates(self.optimizer))
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(torch.ones(1, 3)).square().mean())
                self.optimizer.step()
                if not by_hand:
                    self.prepared.step()
                elif self.accelerator.sync_gradients:
                    self.own.step()
                self.optimizer.zero_grad()
        return table


def _rates_of(rank: int, create: Create, accumulated: int, by_hand: bool, options: dict[str, Any]) -> Rates:
    return Training(rank, create, accumulated, **options).run(STEPS, by_hand)


@pytest.mark.parametrize("by_hand", [False, True], ids=["prepared", "by hand"])
def test_k_is_in_steps_of_the_optimizer(two: Processes, by_hand: bool) -> None:
    assert two.run(_rates_of, curriculum, 2, by_hand, {}) == [plain_loop(curriculum)] * 2


def test_schedulers_that_accelerate_calls_once(two: Processes) -> None:
    split = {"dataloader_config": accelerate.DataLoaderConfiguration(split_batches=True)}
    assert two.run(_rates_of, curriculum, 2, False, split) == [plain_loop(curriculum)] * 2
    never = {"step_scheduler_with_optimizer": False}
    assert two.run(_rates_of, curriculum, 1, False, never) == [plain_loop(curriculum)] * 2


def _resumed(rank: int, folder: str, done: int, **options: Any) -> Rates:
    before = Training(rank, **options)
    table = before.run(done)
    before.accelerator.save_state(folder)
    after = Training(rank, **options)
    assert (type(next(after.model.parameters())) is DTensor) == ("fsdp_plugin" in options)
    after.accelerator.load_state(folder)
    assert after.own.last_epoch == done
    return table + after.run(STEPS - done)


def _sharded(rank: int, folder: str, done: int) -> Rates:
    with cpu_for_gpus():
        plugin = accelerate.FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
        return _resumed(rank, folder, done, fsdp_plugin=plugin)


@pytest.mark.parametrize("resumed", [_resumed, _sharded], ids=["replicated", "FSDP2"])
def test_a_saved_state_goes_on_in_mid_curriculum(two: Processes, tmp_path: Path, resumed: Callable[..., Rates]) -> None:
    assert two.run(resumed, str(tmp_path), K // 2) == [plain_loop(curriculum)] * 2


def test_in_a_chain_the_others_count_calls_as_accelerate_has_it(two: Processes) -> None:
    alone, others = plain_loop(curriculum), plain_loop(cosine, calls=2)
    for table in two.run(_rates_of, chain, 1, False, {}):
        for row, lrs, factors in zip(table, alone, others, strict=True):
            assert row == pytest.approx([lr * factors[0] / 0.1 for lr in lrs], rel=1e-12)


@pytest.mark.parametrize("create", [sequence, second])
def test_in_a_sequence_lerac_and_the_milestones_count_calls(two: Processes, create: Create) -> None:
    assert two.run(_rates_of, create, 1, False, {}) == [plain_loop(create, calls=2)] * 2


def _unseen(rank: int) -> Rates:
    """From the second step on the optimizer's step is another function, such as the replay of a CUDA graph."""
    training = Training(rank, accumulated=1)
    table = training.run(2)
    training.optimizer.optimizer.step = lambda *_: None
    return table + training.run(STEPS - 2)


def test_steps_that_are_not_seen_count(two: Processes) -> None:
    for table in two.run(_unseen):
        assert sorted(table) == table
        assert table[-1] == [0.1, 0.1]


def _without_steps(rank: int) -> Rates:
    """As to draw the schedule, after a step that torch wants to have seen."""
    training = Training(rank)
    training.run(1)
    table = []
    for _ in range(STEPS):
        table.append(rates(training.optimizer))
        training.own.step()
    return table


def test_calls_of_others_count(two: Processes) -> None:
    expected = plain_loop(curriculum)
    expected = [*expected[1:], expected[-1]]
    assert two.run(_without_steps) == [expected] * 2


def _copied(rank: int) -> Rates:
    training = Training(rank, accumulated=1)
    table = training.run(2)
    optimizer, own = pickle.loads(pickle.dumps((training.optimizer.optimizer, training.own)))
    prepared = training.accelerator.prepare_scheduler(own)
    for _ in range(K):
        optimizer.step()
        prepared.step()
    return [*table, rates(optimizer)]


def test_copies_go_on(two: Processes) -> None:
    for table in two.run(_copied):
        assert table[-1] == [0.1, 0.1]
