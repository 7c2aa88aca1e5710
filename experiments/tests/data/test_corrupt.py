"""Wrong labels on purpose."""

import pytest
import torch

from lerac_experiments.data.noise import corrupt_labels, fewest_to_corrupt
from lerac_experiments.data.source import Request, draw
from lerac_experiments.errors import ExperimentError

LABELS = torch.arange(10_000) % 10


def test_exactly_that_share_is_wrong_and_uniformly_so() -> None:
    noisy, corrupt = corrupt_labels(LABELS, 10, 0.4, seed=0)
    assert int(corrupt.sum()) == 4000
    assert torch.equal(noisy != LABELS, corrupt)
    assert LABELS.tolist() == [*range(10)] * 1000, "the labels passed in are as they were"
    # Of every pair of classes 4000 / 90 = 44 on average; a deviation is 6.6.
    pairs = torch.zeros(10, 10, dtype=torch.int64).index_put_((LABELS[corrupt], noisy[corrupt]), torch.tensor(1), True)
    assert pairs.diagonal().sum() == 0
    others = pairs[~torch.eye(10, dtype=torch.bool)]
    assert others.min() > 15
    assert others.max() < 75


def test_the_seed_decides() -> None:
    first, again, other = (corrupt_labels(LABELS, 10, 0.4, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_wrong_labels_are_spread_over_the_order_of_training() -> None:
    """Both are drawn from the same seed, and must not be the same draw."""
    _, corrupt = corrupt_labels(LABELS, 10, 0.4, seed=0)
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(0))
    share = corrupt[order[:1000]].float().mean().item()
    assert share == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize(("noise", "message"), [(0.04, "0 of 10"), (0.96, "10 of 10")])
def test_nothing_or_all_wrong_is_refused(noise: float, message: str) -> None:
    with pytest.raises(ExperimentError, match=f"noise={noise:g} makes {message} labels wrong"):
        corrupt_labels(LABELS[:10], 10, noise, seed=0)


@pytest.mark.parametrize("noise", [0.2, 0.4, 0.8, 0.99, 0.001])
def test_so_many_are_enough_to_make_some_wrong(noise: float) -> None:
    """However little of a data set is drawn."""
    request = Request(share=1e-6, fewest=fewest_to_corrupt(noise))
    for part in draw(100_000, request):
        _, corrupt = corrupt_labels(LABELS[part % len(LABELS)], 10, noise, seed=0)
        assert 0 < corrupt.sum() < len(part)
    assert fewest_to_corrupt(0.0) == 0
