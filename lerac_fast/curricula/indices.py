"""Data sets that say which example is which, as parameters per example need to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset, IterableDataset


class IndexedDataset(Dataset[Any]):
    """A data set whose items come with their index; see `with_indices`.

    Attributes:
        dataset: the data set without indices.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        ):
            raise TypeError(
                f"with_indices: a {type(dataset).__name__} has no indices; give a data set with a length and items by "
                "index"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self._with_index(self.dataset[index], index)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The items of a batch: a DataLoader asks for them at once, and some data sets fetch them faster so."""
        fetch = getattr(self.dataset, "__getitems__", None)
        items = [self.dataset[index] for index in indices] if fetch is None else fetch(indices)
        return [self._with_index(item, index) for item, index in zip(items, indices, strict=True)]

    def _with_index(self, item: Any, index: int) -> Any:
        index = int(index)
        if index < 0:
            index += len(self)
        if isinstance(item, Mapping):
            if "index" in item:
                raise ValueError(f"with_indices: item {index} has an entry 'index' already, {item['index']!r}")
            return {**item, "index": index}
        if isinstance(item, tuple | list):
            return (*item, index)
        return item, index


def with_indices(dataset: Dataset[Any]) -> IndexedDataset:
    """Return `dataset` with every item's index added to it: what `DataParameters` asks for.

    A tuple or list gets it as its last element, a mapping as its entry `"index"`, and anything else comes as a pair.
    torch's default collation makes an int64 tensor of the indices. They are those within `dataset`, from 0 to
    `len(dataset) - 1`, whatever sampler or distributed sampler draws them: `with_indices(Subset(...))` numbers the
    examples of the subset, and `Subset(with_indices(...), ...)` keeps the numbers of the whole.

    Raises:
        TypeError: the data set cannot be indexed.
    """
    return IndexedDataset(dataset)
