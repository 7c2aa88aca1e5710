"""Training runs and timing."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lerac_experiments.data.images import Labelled
from lerac_experiments.demos.regimes import REGIMES, Schedule
from lerac_experiments.demos.runner import Run, cross_entropy, steps_per_epoch, train
from lerac_experiments.demos.timing import interleaved_medians
from lerac_experiments.errors import ExperimentError
from lerac_fast.optim import SGD


class Recorder(nn.Module):
    """A linear classifier that keeps the inputs it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x)
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def make_run(name: str, lr: float = 0.1) -> Run:
    model = Recorder()
    return Run(name, model, SGD(model.parameters(), lr=lr), [])


def make_data(count: int) -> Labelled:
    return Labelled(torch.randn(count, 1, 2, 2), torch.arange(count) % 3)


def train_quietly(runs: Sequence[Run], data: Labelled, *, epochs: int = 2, seed: int = 0) -> int:
    """Trains in batches of 4, and returns how often progress was reported."""
    reports: list[None] = []
    train(runs, data, data, epochs=epochs, batch_size=4, seed=seed, on_step=lambda: reports.append(None))
    return len(reports)


def test_all_runs_see_the_same_batches() -> None:
    first, second = make_run("first"), make_run("second")
    assert train_quietly([first, second], make_data(10)) == 4
    batches = [torch.stack(run.model.seen) for run in (first, second)]  # type: ignore[arg-type]
    assert batches[0].shape == (4, 4, 1, 2, 2)
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0][:2], batches[0][2:]), "every epoch has an order of its own"


def test_losses_and_examples() -> None:
    """A loss gets the numbers of the examples, and a run learns from those alone that are for it."""
    data = make_data(10)
    chosen = torch.arange(10) % 3 > 0
    batches: list[tuple[Tensor, Tensor]] = []

    def loss(logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        batches.append((labels, indices))
        return 0.5 * cross_entropy(logits, labels, indices)

    model = Recorder()
    run = Run("run", model, SGD(model.parameters(), lr=0.1), [], loss=loss, examples=chosen)
    whole = make_run("whole")
    assert train_quietly([run, whole], data, epochs=1) == 2
    for (labels, indices), own, images in zip(batches, model.seen, whole.model.seen, strict=True):  # type: ignore[arg-type]
        assert chosen[indices].all()
        assert torch.equal(labels, data.labels[indices])
        assert torch.equal(own, data.images[indices])
        assert len(images) == 4
    logits = torch.randn(2, 3)
    expected = 0.5 * nn.functional.cross_entropy(logits, torch.tensor([0, 2])).item()
    assert loss(logits, torch.tensor([0, 2]), torch.arange(2)).item() == pytest.approx(expected)


def test_a_batch_of_which_a_run_may_use_nothing() -> None:
    model = Recorder()
    none = torch.zeros(10, dtype=torch.bool)
    run = Run("oracle", model, SGD(model.parameters(), lr=0.1), [], examples=none)
    with pytest.raises(ExperimentError, match="oracle: none of the 4 examples of a batch is for it"):
        train_quietly([run], make_data(10))


def test_epochs_are_reported_after_their_validation() -> None:
    run, data = make_run("run"), make_data(8)
    validated: list[int] = []
    train(
        [run],
        data,
        data,
        epochs=3,
        batch_size=4,
        seed=0,
        on_step=lambda: None,
        on_epoch=lambda: validated.append(len(run.history.validation_accuracies)),
    )
    assert validated == [1, 2, 3]
    assert steps_per_epoch(data, 3) == 2


def test_history_has_an_entry_per_step_and_epoch() -> None:
    run = make_run("run", lr=0.25)
    train_quietly([run], make_data(8), epochs=3)
    history = run.history
    assert len(history.losses) == len(history.step_seconds) == 6
    assert history.learning_rates == [[0.25]] * 6
    assert len(history.validation_accuracies) == len(history.epoch_losses) == 3
    assert history.epoch_losses[1] == pytest.approx(sum(history.losses[2:4]) / 2)


def test_accuracy() -> None:
    run = make_run("run")
    data = make_data(1201)  # not a multiple of the batches it is done in
    predicted = run.model(data.images).argmax(dim=1)
    assert run.accuracy(Labelled(data.images, predicted)) == 1.0
    assert run.accuracy(Labelled(data.images, (predicted + 1) % 3)) == 0.0
    assert run.model.training


def test_divergence_is_reported() -> None:
    run = make_run("LeRaC", lr=1e39)
    with pytest.raises(ExperimentError, match=r"LeRaC: the loss is (nan|inf) after .* up to 1e\+39"):
        train_quietly([run], make_data(40))


class Layers(nn.Module):
    """A convolution that CBS smooths, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 3, padding=1)
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.convolution(x).flatten(1))
        return logits


def test_regimes() -> None:
    schedule = Schedule(total_iters=20, lerac_iters=4, min_lr=1e-5, cbs_every=1)
    traces, smoothed = {}, {}
    for name, regime in REGIMES.items():
        model = Layers()
        groups = [{"params": layer.parameters(), "depth": depth} for depth, layer in enumerate(model.children())]
        optimizer = SGD(groups, lr=0.1)
        run = Run(name, model, optimizer, regime(model, optimizer, schedule))
        smoothed[name] = []
        for _ in range(20):
            smoothed[name].append(len(model.convolution._forward_hooks))
            run.step(make_data(4), torch.arange(4))
        traces[name] = torch.tensor(run.history.learning_rates)
    conventional, lerac = traces["conventional"], traces["LeRaC"]
    expected = torch.tensor([0.1] * 12 + [0.01] * 5 + [0.001] * 3)
    torch.testing.assert_close(conventional, expected[:, None].expand(-1, 2))
    torch.testing.assert_close(lerac[:, 0], expected)
    torch.testing.assert_close(lerac[:5, 1], torch.tensor([1e-5, 1e-4, 1e-3, 1e-2, 1e-1]))
    torch.testing.assert_close(lerac[4:], conventional[4:])
    assert torch.equal(traces["CBS"], conventional)
    assert torch.equal(traces["CBS + LeRaC"], lerac)
    assert smoothed["conventional"] == smoothed["LeRaC"] == [0] * 20
    assert smoothed["CBS"] == smoothed["CBS + LeRaC"] == [1] * 17 + [0] * 3


def test_interleaved_medians_takes_turns() -> None:
    calls: list[str] = []
    named = {name: partial(calls.append, name) for name in "ab"}
    medians = interleaved_medians(named, 3, warmup=1)
    assert "".join(calls) == "abbaabba"
    assert medians.keys() == {"a", "b"}
    assert all(seconds > 0 for seconds in medians.values())
