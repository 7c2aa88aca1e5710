"""with_indices: every kind of item, alone and through a DataLoader, and what it refuses."""

import pickle
from collections import UserDict

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, Subset, TensorDataset

from lerac_fast import with_indices

COUNT = 10


class Items(Dataset):
    """Item i is made of i, which is what the index is to say."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        return self.make(range(COUNT)[i])


class Batched(Items):
    """Fetches batches at once, as some data sets do."""

    def __getitems__(self, indices):
        return [("fetched", self.make(i)) for i in indices]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(COUNT))

    def __len__(self):
        return COUNT


def number(i):
    return float(i)


def pair(i):
    return float(i), i % 3


def triple_as_list(i):
    return [float(i), i % 3, torch.tensor(i)]


def mapping(i):
    return {"x": float(i), "y": i % 3}


def user_mapping(i):
    return UserDict(mapping(i))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (number, (4.0, 4)),
        (str, ("4", 4)),
        (pair, (4.0, 1, 4)),
        (triple_as_list, (4.0, 1, torch.tensor(4), 4)),
        (mapping, {"x": 4.0, "y": 1, "index": 4}),
        (user_mapping, {"x": 4.0, "y": 1, "index": 4}),
    ],
)
def test_items(make, expected):
    dataset = with_indices(Items(make))
    assert len(dataset) == COUNT
    for index in (4, -6, torch.tensor(4)):
        item = dataset[index]
        assert item == expected
        assert type(item["index"] if isinstance(item, dict) else item[-1]) is int
    assert dataset.__getitems__([4, 4]) == [expected, expected]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", [number, pair, triple_as_list, mapping])
def test_collates_to_an_int64_tensor_that_says_which_is_which(make, workers):
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(with_indices(Items(make)), batch_size=4, shuffle=True, num_workers=workers, generator=generator)
    seen = []
    for batch in loader:
        x, indices = (batch["x"], batch["index"]) if isinstance(batch, dict) else (batch[0], batch[-1])
        assert isinstance(indices, Tensor)
        assert indices.dtype == torch.int64
        assert x.tolist() == indices.tolist()
        seen += indices.tolist()
    assert seen != sorted(seen)
    assert sorted(seen) == list(range(COUNT))


def test_subsets():
    picked = [7, 2, 9]
    inside = with_indices(Subset(Items(pair), picked))
    outside = Subset(with_indices(Items(pair)), picked)
    for dataset, expected in ((inside, [0, 1, 2]), (outside, picked)):
        x, _, indices = next(iter(DataLoader(dataset, batch_size=3)))
        assert x.tolist() == picked
        assert indices.tolist() == expected


def test_distributed_samplers_give_the_indices_of_the_whole():
    dataset, seen = with_indices(TensorDataset(torch.arange(COUNT))), []
    for rank in range(2):
        for x, indices in DataLoader(dataset, sampler=DistributedSampler(dataset, 2, rank), batch_size=2):
            assert x.tolist() == indices.tolist()
            seen += indices.tolist()
    assert sorted(seen) == list(range(COUNT))


def test_fetches_batches_at_once_where_the_data_set_does():
    dataset = with_indices(Batched(number))
    assert dataset[3] == (3.0, 3)
    words, x, indices = next(iter(DataLoader(dataset, batch_size=2)))
    assert (words, x.tolist(), indices.tolist()) == (("fetched",) * 2, [0.0, 1.0], [0, 1])


def test_lists_and_pickling():
    dataset = pickle.loads(pickle.dumps(with_indices(["a", "b"])))
    assert [dataset[i] for i in range(2)] == [("a", 0), ("b", 1)]
    assert dataset.dataset == ["a", "b"]


@pytest.mark.parametrize("dataset", [Stream(), {1, 2}, (i for i in range(3)), None])
def test_what_has_no_indices_is_refused(dataset):
    with pytest.raises(TypeError, match=f"a {type(dataset).__name__} has no indices"):
        with_indices(dataset)


def test_an_entry_that_would_be_overwritten_is_refused():
    dataset = with_indices(Items(lambda i: {"index": f"no. {i}"}))
    with pytest.raises(ValueError, match=r"item 3 has an entry 'index' already, 'no\. 3'"):
        dataset[3]
