"""Random batches for data parameters, and a criterion beside its reference."""

from typing import Any

import torch
from torch import Tensor

from lerac_fast import DataParameters
from tests.reference import data_parameters as reference

CLASSES = 5
INSTANCES = 12

Batch = tuple[Tensor, Tensor, Tensor]


def random_batch(seed: int, examples: int, *, ignore: int | None = None, spread: float = 3.0) -> Batch:
    """Logits ``[N, C]`` with a gradient, targets (every fourth is `ignore`), and indices, some of them repeated."""
    generator = torch.Generator().manual_seed(seed)
    logits = (spread * torch.randn(examples, CLASSES, generator=generator)).requires_grad_()
    targets = torch.randint(CLASSES, (examples,), generator=generator)
    if ignore is not None:
        targets[::4] = ignore
    return logits, targets, torch.randint(INSTANCES, (examples,), generator=generator)


def with_reference(**options: Any) -> tuple[DataParameters, reference.DataParameters]:
    expected = reference.DataParameters(**options)
    if options.get("weight") is not None:
        options["weight"] = torch.tensor(options["weight"])
    return DataParameters(**options), expected


def moved(seed: int = 0, **options: Any) -> DataParameters:
    """A criterion for classes and instances, some steps into training: every table is of different numbers."""
    criterion = DataParameters(**{"num_classes": CLASSES, "num_instances": INSTANCES, "weight_decay": 0.01, **options})
    for step in range(3):
        train_step(criterion, random_batch(1000 * seed + step, 30))
    return criterion


def train_step(criterion: DataParameters, *batches: Batch) -> None:
    for batch in batches:
        criterion(*batch).backward()
    criterion.step()


def tables(criterion: DataParameters) -> dict[str, Tensor]:
    """Copies of them."""
    return {name: table.clone() for name, table in criterion.state_dict().items()}


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, table in found.items():
        assert torch.equal(table.view(torch.int32), expected[name].view(torch.int32)), name


def assert_matches(criterion: DataParameters, expected: reference.DataParameters) -> None:
    """Up to the rounding of some float32 operations per step; gradients here are about 1, and so are log sigmas."""
    for kind in expected.log_sigma:
        for name, table in (("log_sigma", expected.log_sigma), ("momentum", expected.buffer)):
            found = criterion.state_dict()[f"{kind}_{name}"]
            torch.testing.assert_close(found.double(), torch.tensor(table[kind]).double(), rtol=3e-5, atol=3e-6)
