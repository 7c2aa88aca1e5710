"""Optimizers with a param group per layer, and the rates of their groups."""

import torch


def groups_at(depths, **options):
    """One param group of one parameter per entry of `depths`; None leaves the `depth` key out."""
    groups = [{"params": [torch.zeros(2, requires_grad=True)], **options} for _ in depths]
    for group, depth in zip(groups, depths, strict=True):
        if depth is not None:
            group["depth"] = depth
    return groups


def sgd(base_lrs, depths=None):
    groups = groups_at([None] * len(base_lrs) if depths is None else depths)
    for group, lr in zip(groups, base_lrs, strict=True):
        group["lr"] = lr
    return torch.optim.SGD(groups, lr=1.0)


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def run(optimizer, curriculum, steps):
    """Step both `steps` times; return the rates used by each optimizer step and those left at the end."""
    table = [rates(optimizer)]
    for _ in range(steps):
        optimizer.step()
        curriculum.step()
        table.append(rates(optimizer))
    return table
