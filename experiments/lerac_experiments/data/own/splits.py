"""How one's own data is divided into parts to train, to validate and to test with."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lerac_experiments.data.own.spec import PartName
from lerac_experiments.data.source import VALIDATION_SHARE, Request, draw_test, join_notes
from lerac_experiments.errors import ExperimentError

TEST_SHARE = 0.2
"""Of all examples, where there is no test part."""

PART_NAMES: dict[str, PartName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""What folders, and values of a column, may be called that are a part: in small letters."""


@dataclass(frozen=True)
class Division:
    """The numbers of the examples of each part, int64, disjoint; and what a reader of the results must know."""

    train: Tensor
    validation: Tensor
    test: Tensor
    note: str | None

    @property
    def numbers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of those to train, to validate and to test with."""
        return self.train, self.validation, self.test

    def repeated(self, contents: Sequence[Hashable]) -> str | None:
        """A note if examples to test with are among those to train with.

        Args:
            contents: what each example is, so that those which are equal are the same.
        """
        trained = {contents[at] for at in self.train.tolist()}
        count = sum(contents[at] in trained for at in self.test.tolist())
        if not count:
            return None
        return f"{count:,} of {len(self.test):,} test examples are the same as some that are trained with"


def divide(
    parts: Sequence[PartName | None],
    labels: Tensor | None,
    request: Request,
    source: str,
    classes: Sequence[str] = (),
) -> Division:
    """Divides examples. The same for the same split seed.

    Parts that are named are kept to. Without a test part, the validation part is tested with, or else a fifth of the
    training part that is set aside first. Without a validation part, a tenth of the rest is set aside. What is set
    aside has the classes in the same shares, as far as that is possible, and leaves at least one example of each.

    Args:
        parts: of each example, the part it belongs to; all None, where none is named.
        labels: the classes int64 [N]; None, if there are none.
        classes: their names.

    Raises:
        ExperimentError: there are too few examples, no part to train with, or none of a class in it.
    """
    numbers = {
        name: torch.tensor([i for i, part in enumerate(parts) if part == name], dtype=torch.int64)
        for name in ("train", "validation", "test", None)
    }
    if len(numbers[None]) and len(numbers[None]) < len(parts):
        raise ExperimentError(
            f"{source}: {len(numbers[None]):,} of {len(parts):,} examples are in no part, though others are in "
            "one to train, to validate or to test with: name the part of all of them, or of none"
        )
    pool = numbers["train"] if len(numbers["train"]) else numbers[None]
    validation, test = numbers["validation"], numbers["test"]
    if not len(pool):
        raise ExperimentError(f"{source} holds no examples to train with")
    if labels is not None and (missing := sorted(set(labels.tolist()) - set(labels[pool].tolist()))):
        raise ExperimentError(
            f"{source}: of the class {classes[missing[0]]!r} there are examples to validate or to test with, and none "
            "to train with"
        )
    notes = []
    if not len(test) and len(validation):
        notes.append("there is no test part: tested on the validation part, and validated on a share of the training")
        test, validation = validation, test
    if not len(test):
        pool, test = _set_aside(pool, labels, TEST_SHARE, _generator(request, "test"))
        how = "as many of each class in proportion" if labels is not None else "at random"
        notes.append(f"there is no test part: {TEST_SHARE:.0%} of the examples are one, {how}, by a fixed seed")
    if len(validation):
        pool, validation = _drawn(pool, validation, request)
    else:
        pool = pool[torch.randperm(len(pool), generator=_generator(request, "train"))[: request.to_train(len(pool))]]
        pool, validation = _set_aside(pool, labels, VALIDATION_SHARE, _generator(request, "validation"))
    if not (len(pool) and len(validation) and len(test)):
        raise ExperimentError(
            f"{source} holds {len(parts):,} examples, of which {len(pool)}, {len(validation)} and {len(test)} are to "
            "train, to validate and to test with: too few to divide"
        )
    return Division(pool, validation, test[draw_test(len(test), request)], join_notes(*notes))


def _generator(request: Request, purpose: str) -> torch.Generator:
    """A stream of its own for each purpose, so that how many are drawn for one does not move the others."""
    place = ("test", "train", "validation").index(purpose)
    return torch.Generator().manual_seed(3 * request.split_seed + place)


def _drawn(train: Tensor, validation: Tensor, request: Request) -> tuple[Tensor, Tensor]:
    """So many of both together as are asked for, in proportion."""
    count = len(train) + len(validation)
    drawn = request.to_train(count)
    if drawn == count:
        return train, validation
    wanted = min(len(validation), max(1, round(len(validation) / count * drawn)))
    generator = _generator(request, "train")
    train = train[torch.randperm(len(train), generator=generator)[: max(0, drawn - wanted)]]
    return train, validation[torch.randperm(len(validation), generator=generator)[:wanted]]


def _set_aside(pool: Tensor, labels: Tensor | None, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The numbers that stay, in their order, and those set aside, sorted: a share of each class."""
    own = torch.zeros(len(pool), dtype=torch.int64) if labels is None else labels[pool]
    quotas = _quotas(own.unique(return_counts=True), share, len(pool))
    order = torch.randperm(len(pool), generator=generator)
    chosen = torch.zeros(len(pool), dtype=torch.bool)
    for label, quota in quotas.items():
        chosen[order[own[order] == label][:quota]] = True
    return pool[~chosen], pool[chosen].sort().values


def _quotas(classes: tuple[Tensor, Tensor], share: float, count: int) -> dict[int, int]:
    """How many of each class: in proportion, rounded so that the sum is right, and never all of a class."""
    sizes = dict(zip(*(column.tolist() for column in classes), strict=True))
    quotas = {label: min(int(share * size), size - 1) for label, size in sizes.items()}
    wanted = max(1, round(share * count)) - sum(quotas.values())
    by_remainder = sorted(sizes, key=lambda label: (quotas[label] - share * sizes[label], label))
    for label in by_remainder:
        if wanted > 0 and quotas[label] < sizes[label] - 1:
            quotas[label] += 1
            wanted -= 1
    return quotas
