"""How one's own data is divided."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerac_experiments.data.own.splits import Division, divide
from lerac_experiments.data.source import Request
from lerac_experiments.errors import ExperimentError

reproducible = settings(derandomize=True, max_examples=60)


def sets(division: Division) -> tuple[set[int], set[int], set[int]]:
    train, validation, test = (set(numbers.tolist()) for numbers in division.numbers)
    assert len(train) + len(validation) + len(test) == len(train | validation | test), "an example is in two parts"
    return train, validation, test


@reproducible
@given(labels=st.lists(st.integers(0, 4), min_size=12, max_size=120), seed=st.integers(0, 3))
def test_what_is_set_aside_has_the_classes_in_the_same_shares(labels: list[int], seed: int) -> None:
    of = torch.tensor(labels)
    request = Request(split_seed=seed)
    division = divide([None] * len(labels), of, request, "here", list("abcde"))
    train, validation, test = sets(division)
    assert train | validation | test == set(range(len(labels)))
    assert len(test) <= max(1, round(0.2 * len(labels)))
    for label in set(labels):
        size = labels.count(label)
        assert abs(sum(labels[at] == label for at in test) - 0.2 * size) <= 1
        assert any(labels[at] == label for at in train), "none is left to train with"
    again = divide([None] * len(labels), of, request, "here", list("abcde"))
    assert all(map(torch.equal, division.numbers, again.numbers))


@reproducible
@given(
    parts=st.lists(st.sampled_from(["train", "train", "train", "validation", "test"]), min_size=20, max_size=60),
    seed=st.integers(0, 3),
    drawn=st.none() | st.integers(8, 30),
)
def test_parts_that_are_named_are_kept_to(parts: list, seed: int, drawn: int | None) -> None:
    parts = ["train", "train", *parts, "test"]
    train, validation, test = sets(divide(parts, None, Request(split_seed=seed, train_examples=drawn), "here"))
    assert test == {at for at, part in enumerate(parts) if part == "test"}
    assert all(parts[at] == "train" for at in train)
    source = "validation" if "validation" in parts else "train"
    assert all(parts[at] == source for at in validation)
    assert drawn is None or len(train) + len(validation) <= drawn


def test_a_validation_part_without_a_test_part_is_tested_with() -> None:
    division = divide(["train"] * 20 + ["validation"] * 5, None, Request(), "here")
    assert sets(division)[2] == set(range(20, 25))
    assert division.note is not None
    assert "tested on the validation part" in division.note


def test_the_test_part_does_not_depend_on_how_many_are_drawn_to_train() -> None:
    labels = torch.arange(60) % 3
    few, all_ = (divide([None] * 60, labels, Request(train_examples=n), "here", "abc") for n in (10, None))
    assert torch.equal(few.test, all_.test)
    assert len(few.train) + len(few.validation) == 10
    other = divide([None] * 60, labels, Request(split_seed=1), "here", "abc")
    assert not torch.equal(other.test, all_.test)


@pytest.mark.parametrize(
    ("parts", "labels", "message"),
    [
        (["train"] * 5 + [None], None, "1 of 6 examples are in no part"),
        (["test"] * 5, None, "no examples to train with"),
        ([None] * 2, None, "too few to divide"),
        (
            ["train"] * 6 + ["test"],
            [0, 1, 0, 1, 0, 1, 2],
            "of the class 'c' there are examples to validate or to test with",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(parts: list, labels: list[int] | None, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        divide(parts, None if labels is None else torch.tensor(labels), Request(), "here", "abc")
