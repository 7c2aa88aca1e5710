"""`python -m tests.architectures.survey`: judges every model in a process of its own and writes the table."""

import argparse
import csv
import gc
import importlib
import importlib.util
import multiprocessing
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.architectures.architecture import Architecture
from tests.architectures.table import markdown
from tests.architectures.verdict import Verdict, judge

LIBRARIES = ("torchvision", "timm", "transformers", "diffusers")
TIMEOUT_SECONDS = 180
PROCESSES = 2


def architectures(libraries: Iterable[str] = LIBRARIES) -> list[Architecture]:
    """Of the libraries that are installed."""
    found: list[Architecture] = []
    for library in libraries:
        if importlib.util.find_spec(library) is not None:
            found += importlib.import_module(f"tests.architectures.{library}_models").architectures()
    return found


class _Running(NamedTuple):
    process: multiprocessing.Process
    architecture: Architecture
    began: float


def survey(chosen: Iterable[Architecture]) -> Iterator[Verdict]:
    """Verdicts as they come. A model that takes too long, or ends its process, costs only its own."""
    context = multiprocessing.get_context("fork")  # the libraries are imported once
    _load_what_passes_load()
    gc.collect()
    gc.freeze()  # what is there before all models is not looked through for each of them
    waiting, running = deque(chosen), dict[Connection, _Running]()
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            architecture = waiting.popleft()
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_judge_and_send, args=(architecture, sender))
            process.start()
            sender.close()
            running[receiver] = _Running(process, architecture, time.monotonic())
        ready = set(wait(list(running), timeout=1.0))
        late = {r for r, run in running.items() if time.monotonic() - run.began > TIMEOUT_SECONDS} - ready
        for receiver in ready | late:
            yield _verdict(running.pop(receiver), receiver, late=receiver in late)


def _load_what_passes_load() -> None:
    """Modules that torch imports with the first fake tensor."""
    with FakeTensorMode(), torch.no_grad():
        torch.nn.Linear(2, 2)(torch.zeros(1, 2))


def _judge_and_send(architecture: Architecture, sender: Connection) -> None:
    torch.set_num_threads(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        verdict = judge(architecture)
    except Exception:
        reason = f"the survey failed: {' '.join(traceback.format_exc().split())[-300:]}"
        verdict = Verdict(architecture.library, architecture.name, 0, 0, 0, 0.0, 0.0, "does not run", reason)
    sender.send(verdict)
    sender.close()


def _verdict(run: _Running, receiver: Connection, *, late: bool) -> Verdict:
    seconds = round(time.monotonic() - run.began, 1)
    library, name = run.architecture.library, run.architecture.name
    if late:
        run.process.kill()
        verdict = Verdict(library, name, 0, 0, 0, seconds, seconds, "slow", f"no verdict after {TIMEOUT_SECONDS} s")
    else:
        try:
            verdict = receiver.recv()
        except EOFError:
            run.process.join()
            ended = f"the process ended with {run.process.exitcode}"
            verdict = Verdict(library, name, 0, 0, 0, seconds, seconds, "harmed", ended)
    run.process.join()
    receiver.close()
    return verdict


def write_csv(verdicts: Iterable[Verdict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Verdict._fields)
        writer.writerows(sorted(verdicts, key=lambda v: (LIBRARIES.index(v.library), v.model)))


def read_csv(path: Path) -> list[Verdict]:
    with path.open(newline="") as file:
        return [
            Verdict(**{name: _KINDS.get(name, str)(text) for name, text in row.items()}) for row in csv.DictReader(file)
        ]


_KINDS: dict[str, Callable[[str], Any]] = {
    name: kind for name, kind in Verdict.__annotations__.items() if kind in (int, float)
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.architectures.survey", description=__doc__)
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="only this one; may be repeated")
    parser.add_argument("--model", action="append", help="only models of this name; may be repeated")
    parser.add_argument("--csv", type=Path, default=Path("runs/architectures.csv"), help="one row for each model")
    parser.add_argument("--markdown", type=Path, help="the table, made from all rows")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that are there, and judge other models only"
    )
    arguments = parser.parse_args()
    verdicts = read_csv(arguments.csv) if arguments.resume and arguments.csv.exists() else []
    judged = {(verdict.library, verdict.model) for verdict in verdicts}
    chosen = [
        architecture
        for architecture in architectures(arguments.library or LIBRARIES)
        if (not arguments.model or architecture.name in arguments.model)
        and (architecture.library, architecture.name) not in judged
    ]
    for number, verdict in enumerate(survey(chosen), 1):
        verdicts.append(verdict)
        head = f"{number}/{len(chosen)} {verdict.library} {verdict.model}: {verdict.verdict}"
        print(head, f"{verdict.processor_seconds} of {verdict.seconds} s", verdict.reason, flush=True)
        write_csv(verdicts, arguments.csv)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(verdicts, arguments.csv))
    return int(any(verdict.verdict == "harmed" for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
