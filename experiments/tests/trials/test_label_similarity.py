"""Label similarity: its targets against the recursion, element by element, and where similarities come from."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.tests.trials.helpers import digits_trial, planned, record_of, run
from lerac_experiments.errors import ExperimentError
from lerac_experiments.training.regimes.label_similarity import (
    name_similarity,
    read_similarity,
    shares_of_others,
    soft_targets,
    spread_after,
)


def by_the_recursion(similarity: Tensor, epsilon: float, epochs: int) -> Tensor:
    """The reference, in float64 and element by element."""
    classes = len(similarity)
    v = [[0.0] * classes for _ in range(classes)]
    for i in range(classes):
        total = sum(similarity[i, k].item() for k in range(classes) if k != i)
        for j in range(classes):
            own = 1 / (1 + epsilon)
            v[i][j] = own if i == j else epsilon / (1 + epsilon) * similarity[i, j].item() / total
    for _ in range(epochs):
        for i in range(classes):
            divisor = 1 + epsilon * sum(v[i][k] for k in range(classes) if k != i)
            v[i] = [1 / divisor if i == j else epsilon * v[i][j] / divisor for j in range(classes)]
    return torch.tensor(v, dtype=torch.float64)


@pytest.mark.parametrize("epsilon", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("epochs", [0, 1, 7])
def test_targets(epsilon: float, epochs: int) -> None:
    similarity = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = soft_targets(shares_of_others(similarity), spread_after(epochs, epsilon))
    torch.testing.assert_close(targets, by_the_recursion(similarity, epsilon, epochs))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(5, dtype=torch.float64))


def test_they_sharpen_to_one_class() -> None:
    spreads = [spread_after(epochs, 0.99) for epochs in range(500)]
    assert all(later < before for before, later in itertools.pairwise(spreads))
    assert spreads[0] == pytest.approx(0.99 / 1.99)
    assert spreads[-1] < 1e-4


def test_similar_names() -> None:
    similarity = name_similarity(["cat", "dog", "pick-up_truck", "truck"])
    assert similarity.shape == (4, 4)
    assert similarity[0, 1] > similarity[0, 2]
    assert similarity[2, 3] > similarity[2, 0]
    torch.testing.assert_close(similarity.diagonal(), torch.ones(4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2\n3,4", "is 2 x 2 numbers, and there are 3 classes"),
        ("1,2,3\n4,5", "cannot be read"),
        ("1,a,3\n1,2,3\n1,2,3", "cannot be read"),
        ("1,-2,3\n1,2,3\n1,2,3", "numbers from 0 on"),
        ("1,nan,3\n1,2,3\n1,2,3", "numbers from 0 on"),
        ("1,0,0\n1,2,3\n1,2,3", "one above 0 beside its own"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "similarity.csv"
    path.write_text(content)
    with pytest.raises(ExperimentError, match=message):
        read_similarity(path, 3)
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_similarity(tmp_path / "none.csv", 3)


def test_a_trial_by_the_names_of_the_digits(tmp_path: Path) -> None:
    trial = digits_trial("label-similarity", label_epsilon=0.5)
    assert run(planned(tmp_path, trial)) == 0
    spreads = [epoch["spread"] for epoch in record_of(tmp_path, trial)["epochs"]]
    assert spreads == pytest.approx([spread_after(epochs, 0.5) for epochs in (1, 2, 3)])


def test_scaled_down_it_sharpens_as_far(tmp_path: Path) -> None:
    """An epoch of a quarter of the training stands for four."""
    trial = digits_trial("label-similarity", label_epsilon=0.5, share=0.25)
    assert run(planned(tmp_path, trial)) == 0
    spreads = [epoch["spread"] for epoch in record_of(tmp_path, trial)["epochs"]]
    assert spreads == pytest.approx([spread_after(epochs, 0.5) for epochs in (4, 8, 12)])
