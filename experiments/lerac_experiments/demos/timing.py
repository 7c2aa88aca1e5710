"""Timing on machines that are never quiet."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def interleaved_medians(calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 5) -> dict[str, float]:
    """Times all `calls` in every round, each by turns the first, and returns the median seconds of each.

    What else happens on the machine then falls on all of them alike, so that their ratios hold where the
    times themselves do not.
    """
    order = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(warmup + rounds):
        for name in order:
            start = time.perf_counter()
            calls[name]()
            elapsed = time.perf_counter() - start
            if round_number >= warmup:
                seconds[name].append(elapsed)
        order.append(order.pop(0))
    return {name: median(times) for name, times in seconds.items()}
