"""Data parameters, slow and readable: loss and update of the whole tables, one example at a time, in float64."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor | None]
"""logits [N, C], targets [N], indices [N]"""


def example(z: list[float], y: int, sigma: float, weight: list[float], smoothing: float) -> tuple[float, float]:
    """The loss of one example and its derivative for sigma, before they are averaged over the batch."""
    wanted = [smoothing / len(z) * w for w in weight]
    wanted[y] += (1 - smoothing) * weight[y]
    largest = max(z)
    exponentials = [math.exp((z_j - largest) / sigma) for z_j in z]
    p = [e / sum(exponentials) for e in exponentials]
    log_p = [(z_j - largest) / sigma - math.log(sum(exponentials)) for z_j in z]
    loss = -sum(q * log for q, log in zip(wanted, log_p, strict=True))
    expected = sum(p_j * z_j for p_j, z_j in zip(p, z, strict=True))
    aimed = sum(q * z_j for q, z_j in zip(wanted, z, strict=True))
    return loss, (aimed - sum(wanted) * expected) / sigma**2


def equation_4(z: list[float], y: int, sigma: float) -> float:
    """dL/dsigma as the paper prints it, without label smoothing: 0/0 where p_y = 1."""
    p = torch.tensor(z, dtype=torch.double).div(sigma).softmax(0).tolist()
    others = sum(p[j] / (1 - p[y]) * z[j] for j in range(len(z)) if j != y)
    return (1 - p[y]) / sigma**2 * (z[y] - others)


@dataclass
class DataParameters:
    """Same options as lerac_fast's. The tables are lists, and so are the gradients of all their rows."""

    num_classes: int | None = None
    num_instances: int | None = None
    class_lr: float = 0.1
    instance_lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    class_gradient: str = "class_mean"
    clamp: tuple[float, float] | None = None
    label_smoothing: float = 0.0
    ignore_index: int = -100
    weight: list[float] | None = None
    log_sigma: dict[str, list[float]] = field(default_factory=dict)
    buffer: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        joint = self.num_classes is not None and self.num_instances is not None
        starts = {"class": (self.num_classes, 1.0), "instance": (self.num_instances, 0.001 if joint else 1.0)}
        for kind, (count, sigma) in starts.items():
            if count is not None:
                self.log_sigma[kind] = [math.log(sigma)] * count
                self.buffer[kind] = [0.0] * count

    def losses(self, batch: Batch) -> list[tuple[dict[str, int], float, float, float]]:
        """Of every example that counts: its rows in the tables, its loss, the derivative, and 1 / B of its average."""
        logits, targets, indices = batch
        z = logits.double().tolist()
        weight = [1.0] * logits.shape[1] if self.weight is None else self.weight
        counted = [n for n, y in enumerate(targets.tolist()) if y != self.ignore_index]
        examples = sum(weight[int(targets[n])] for n in counted)
        found = []
        for n in counted:
            y = int(targets[n])
            rows = {"class": y, "instance": -1 if indices is None else int(indices[n])}
            rows = {kind: row for kind, row in rows.items() if kind in self.log_sigma}
            sigma = sum(math.exp(self.log_sigma[kind][row]) for kind, row in rows.items())
            found.append((rows, *example(z[n], y, sigma, weight, self.label_smoothing), 1 / examples))
        return found

    def loss(self, batch: Batch) -> float:
        return sum(loss * share for _, loss, _, share in self.losses(batch))

    def step(self, ranks: list[list[Batch]]) -> None:
        """What every rank does, once each of them has gone backward through the losses of its batches."""
        old = {kind: list(table) for kind, table in self.log_sigma.items()}
        gradient = {kind: [0.0] * len(table) for kind, table in old.items()}
        share_of_row = {kind: [0.0] * len(table) for kind, table in old.items()}
        present: dict[str, set[int]] = {kind: set() for kind in old}
        for batches in ranks:
            for batch in batches:
                for rows, _, by_sigma, share in self.losses(batch):
                    for kind, row in rows.items():
                        present[kind].add(row)
                        gradient[kind][row] += by_sigma * math.exp(old[kind][row]) * share / len(ranks)
                        share_of_row[kind][row] += share / len(batches) / len(ranks)
        lr = {"class": self.class_lr, "instance": self.instance_lr}
        for kind, table in self.log_sigma.items():
            for row in present[kind]:
                g = gradient[kind][row]
                if kind == "class" and self.class_gradient == "class_mean":
                    g /= share_of_row[kind][row]
                self.buffer[kind][row] = self.momentum * self.buffer[kind][row] + g + self.weight_decay * old[kind][row]
                table[row] = old[kind][row] - lr[kind] * self.buffer[kind][row]
                if self.clamp is not None:
                    table[row] = min(max(table[row], math.log(self.clamp[0])), math.log(self.clamp[1]))
