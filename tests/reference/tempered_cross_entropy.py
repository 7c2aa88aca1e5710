"""Tempered cross entropy as its definition reads, in float64, differentiable by torch itself."""

import torch
from torch import Tensor


def tempered_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    sigma: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """logits [N, C, ...], targets [N, ...], sigma of the targets' shape."""
    z = logits.double().movedim(1, -1)
    classes = z.shape[-1]
    weights = torch.ones(classes, dtype=torch.double) if weight is None else weight.double()
    counts = targets != ignore_index
    target = targets.masked_fill(~counts, 0)
    log_p = torch.log_softmax(z / sigma.double().unsqueeze(-1), -1)
    at_target = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1) * weights[target]
    everywhere = -(log_p * weights).sum(-1) if label_smoothing else torch.zeros_like(at_target)
    losses = ((1 - label_smoothing) * at_target + label_smoothing / classes * everywhere) * counts
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / (weights[target] * counts).sum()
