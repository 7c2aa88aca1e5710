"""LeRaC, slow and readable: Eq. 8 of the paper with its base c, and the other curves one rate at a time."""

import math


def eq8(initial_lr: float, base_lr: float, step: int, k: int, c: float = 10.0) -> float:
    """eta_j(l) = eta_j(0) * c^((l / k) * (log_c eta - log_c eta_j(0))), 0 <= l <= k. The paper has c = 10."""
    return initial_lr * c ** ((step / k) * (math.log(base_lr, c) - math.log(initial_lr, c)))


def linear(initial_lr: float, base_lr: float, step: int, k: int) -> float:
    """The straight line from eta_j(0) to eta (Table 5)."""
    return initial_lr + (base_lr - initial_lr) * step / k


def logarithmic(initial_lr: float, base_lr: float, step: int, k: int) -> float:
    """The logarithm of 1 at step 0 and of e at step k, scaled to run from eta_j(0) to eta."""
    return initial_lr + (base_lr - initial_lr) * math.log(1 + (math.e - 1) * step / k)


def cosine(initial_lr: float, base_lr: float, step: int, k: int) -> float:
    """Half a period of a cosine, from eta_j(0) to eta."""
    return initial_lr + (base_lr - initial_lr) * (1 - math.cos(math.pi * step / k)) / 2


def decades(initial_lr: float, base_lr: float, events: int) -> float:
    """The authors' code: at each update event the rate is multiplied by 10 until it reaches eta."""
    lr = initial_lr
    for _ in range(events):
        lr = min(lr * 10, base_lr)
    return lr


def spaced_in_depth(first_lr: float, last_lr: float, depth: int, depths: int) -> float:
    """The initial rate at `depth` = 1..depths: equal steps on the logarithmic axis between the two ends."""
    step = (math.log10(last_lr) - math.log10(first_lr)) / (depths - 1)
    return 10 ** (math.log10(first_lr) + (depth - 1) * step)
