"""Paired timing: contenders take turns within one process, and are compared by the ratio of their medians."""

import gc
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import truediv

import pytest
import torch
from rich.console import Console
from rich.table import Table

import lerac_fast

LIMIT = "stream limit"


@dataclass
class Result:
    """Medians, in microseconds, of contenders that took turns."""

    benchmark: str
    case: str
    medians: dict[str, float]
    machine: str

    @property
    def subject(self) -> str:
        return next(iter(self.medians))

    def ratio(self, contender: str) -> float:
        """The subject's time over the contender's: below 1, the subject is faster."""
        return self.medians[self.subject] / self.medians[contender]


_RESULTS: list[Result] = []  # of this session, for the table at its end


def record(result: Result) -> None:
    """Shows the result in the table at the end of the session."""
    _RESULTS.append(result)


def seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _interquartile_range(values: list[float]) -> float:
    first, _, third = statistics.quantiles(values, n=4)
    return third - first


def _cpu() -> str:
    return f"{torch.get_num_threads()} threads, {lerac_fast.build_info()['cpu_capability']}"


@pytest.fixture
def compare(benchmark, request) -> Callable[..., Result]:
    """Times contenders in turns. The first is the subject, which pytest-benchmark records; the others are its peers.

    Call it with the case's name, ``{contender: function}``, and the bytes that the subject must move. In each round the
    peers have their turns in a new random order, then the subject. A turn is one call that is not timed, so that the
    caches hold what the contender itself leaves there and not what the one before it left, and one that is; or the
    latter only, if not `warm`. Rounds fill `seconds`, within limits. `once` calls a function and says how many seconds
    it took: on a GPU, by its own clock; `machine` names the one it runs on.
    """

    def run(
        case: str,
        contenders: dict[str, Callable[[], object]],
        bytes_moved: int,
        seconds: float = 4.0,
        warm: bool = True,
        once: Callable[[Callable[[], object]], float] = seconds_of,
        machine: str | None = None,
    ) -> Result:
        subject, *peers = contenders
        for function in contenders.values():  # makes states, starts threads
            function()
        one_round = (1 + warm) * sum(seconds_of(partial(once, function)) for function in contenders.values())
        rounds = max(7, min(300, int(seconds / one_round)))
        times: dict[str, list[float]] = {name: [] for name in contenders}
        order = random.Random(0)

        def run_peers() -> None:
            order.shuffle(peers)
            for peer in peers:
                if warm:
                    contenders[peer]()
                times[peer].append(once(contenders[peer]))
            if warm:
                contenders[subject]()

        gc.collect()
        gc.disable()
        try:
            benchmark.pedantic(lambda: times[subject].append(once(contenders[subject])), setup=run_peers, rounds=rounds)
        finally:
            gc.enable()
        medians = {name: statistics.median(times[name]) * 1e6 for name in contenders}
        result = Result(request.function.__name__.removeprefix("bench_"), case, medians, machine or _cpu())
        benchmark.extra_info |= {
            "case": case,
            "median_us": {name: round(value, 2) for name, value in medians.items()},
            "iqr_us": round(_interquartile_range(times[subject]) * 1e6, 2),
            "ratio": {name: round(result.ratio(name), 4) for name in medians if name != subject},
            "median_ratio_within_rounds": {
                name: round(statistics.median(map(truediv, times[subject], times[name])), 4) for name in peers
            },
            "bytes_moved": bytes_moved,
            "gigabytes_per_second": round(bytes_moved / medians[subject] / 1e3, 2),
        }
        if LIMIT in medians:
            benchmark.extra_info["share_of_limit"] = round(1 / result.ratio(LIMIT), 3)
        record(result)
        return result

    return run


def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    machine_info["lerac_fast"] = lerac_fast.build_info()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    console = Console(width=max(150, terminalreporter.config.get_terminal_writer().fullwidth))
    for name in dict.fromkeys(result.benchmark for result in _RESULTS):
        results = [result for result in _RESULTS if result.benchmark == name]
        columns = list(dict.fromkeys(c for result in results for c in result.medians))
        table = Table(
            title=f"{name}: median milliseconds; in brackets, the first column's time over this one's\n"
            f"torch {torch.__version__}, {results[0].machine}"
        )
        for column in ["case", *columns]:
            table.add_column(column, justify="left" if column == "case" else "right")
        for result in results:
            cells = [
                f"{result.medians[c] / 1e3:.4g}" + (f" ({result.ratio(c):.2f})" if c != result.subject else "")
                if c in result.medians
                else ""
                for c in columns
            ]
            table.add_row(result.case, *cells)
        console.print(table)
