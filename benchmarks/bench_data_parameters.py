"""Data parameters: the tempered loss against torch's cross entropy, and the step against the authors' formulation."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lerac_fast import DataParameters, tempered_cross_entropy

BATCH, CLASSES = 128, 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "classes"), [(64, 10), (128, 100), (128, 1000), (256, 10_000)])
def bench_loss(compare, rows: int, classes: int, dtype: torch.dtype) -> None:
    """Forward and backward, for logits and temperatures; torch's without temperatures, and with them written out."""
    logits = torch.randn(rows, classes).to(dtype).requires_grad_()
    targets = torch.randint(0, classes, (rows,))
    sigma = torch.ones(rows).requires_grad_()

    def run(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def forward_and_backward() -> None:
            logits.grad = sigma.grad = None
            loss().backward()

        return forward_and_backward

    timed = {
        "tempered_cross_entropy": run(lambda: tempered_cross_entropy(logits, targets, sigma)),
        "F.cross_entropy": run(lambda: F.cross_entropy(logits, targets)),
        "F.cross_entropy of logits / sigma": run(
            lambda: F.cross_entropy(logits / sigma[:, None].to(logits.dtype), targets)
        ),
    }
    compare(f"{rows} x {classes}, {str(dtype)[6:]}", timed, bytes_moved=3 * logits.nbytes, seconds=3.0)


class AuthorsDataParameters:
    """The step as the paper's authors do it: a dense parameter, whose N entries are cloned, masked and clamped."""

    def __init__(self, num_instances: int, lr: float = 0.2, momentum: float = 0.9, weight_decay: float = 5e-4) -> None:
        self.log_sigma = nn.Parameter(torch.zeros(num_instances))
        self.buffer = torch.zeros(num_instances)
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay

    def __call__(self, logits: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        return F.cross_entropy(logits / self.log_sigma[indices].exp()[:, None], targets)

    @torch.no_grad()
    def step(self) -> None:
        gradient = self.log_sigma.grad
        touched = gradient != 0
        updated = self.buffer.clone().mul_(self.momentum).add_(gradient + self.weight_decay * self.log_sigma)
        self.buffer = torch.where(touched, updated, self.buffer)
        self.log_sigma.sub_(self.lr * self.buffer * touched)
        self.log_sigma.clamp_(math.log(1 / 20), math.log(20))
        self.log_sigma.grad = None


def _step(criterion: DataParameters | AuthorsDataParameters, instances: int) -> Callable[[], None]:
    """Loss, backward pass and update for the next of some batches."""
    logits = torch.randn(BATCH, CLASSES).requires_grad_()
    targets = torch.randint(0, CLASSES, (BATCH,))
    batches = [torch.randint(0, instances, (BATCH,)) for _ in range(50)]
    turn = iter(range(10**9))

    def run() -> None:
        logits.grad = None
        criterion(logits, targets, batches[next(turn) % len(batches)]).backward()
        criterion.step()

    return run


def bench_number_of_examples(compare) -> None:
    """What a step costs by the number of examples; the subject has the most."""
    timed = {
        f"lerac_fast, N = {n:,}": _step(DataParameters(CLASSES, n), n) for n in (10_000_000, 1_000_000, 100_000, 10_000)
    }
    for n in (10_000, 1_000_000):
        timed[f"authors' formulation, N = {n:,}"] = _step(AuthorsDataParameters(n), n)
    plain = torch.randn(BATCH, CLASSES).requires_grad_()
    targets = torch.randint(0, CLASSES, (BATCH,))

    def cross_entropy() -> None:
        plain.grad = None
        F.cross_entropy(plain, targets).backward()

    timed["F.cross_entropy, no parameters"] = cross_entropy
    compare(f"batch of {BATCH}, {CLASSES} classes", timed, bytes_moved=0, seconds=20.0)
