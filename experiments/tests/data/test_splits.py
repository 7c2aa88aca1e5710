"""What is drawn to train, to validate and to test with."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerac_experiments.data.source import Request, draw

reproducible = settings(derandomize=True)


@reproducible
@given(
    groups=st.lists(st.integers(0, 30), min_size=40, max_size=80).filter(lambda groups: len(set(groups)) > 10),
    seed=st.integers(0, 5),
    train_examples=st.none() | st.integers(30, 100),
)
def test_groups_are_not_divided(groups: list[int], seed: int, train_examples: int | None) -> None:
    request = Request(split_seed=seed, train_examples=train_examples)
    train, validation = draw(len(groups), request, groups)
    plain = draw(len(groups), request)
    assert sorted([*train.tolist(), *validation.tolist()]) == sorted(torch.cat(plain).tolist()), "the same are drawn"
    assert not {groups[index] for index in train.tolist()} & {groups[index] for index in validation.tolist()}
    most = max(map(groups.count, groups))
    assert len(plain[1]) <= len(validation) < len(plain[1]) + most


@reproducible
@given(count=st.integers(4, 100), seed=st.integers(0, 5))
def test_groups_of_one_change_nothing(count: int, seed: int) -> None:
    request = Request(split_seed=seed)
    for grouped, plain in zip(draw(count, request, range(count)), draw(count, request), strict=True):
        assert grouped.tolist() == plain.tolist()
