"""Runs a function where whatever it does to models, caches and random streams stays: in a forked child."""

import builtins
import gc
import logging
import os
import pickle
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import torch

T = TypeVar("T")

IDLE_SECONDS = 60
"""A child that takes no processor time for so long waits for a lock that a thread of its parent held."""


class RemoteTraceback(Exception):
    """The traceback of an error in the child, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class NoChildError(RuntimeError):
    """This process cannot have a child."""


class ChildEndedError(RuntimeError):
    """The child ended, or was ended, without an answer."""


def in_a_child(function: Callable[[], T]) -> T:
    """What `function()` returns, or raises, in a copy of this process of which nothing else is kept.

    The child has one thread and must not use a GPU. What it prints and logs goes nowhere. Results are pickled;
    exceptions come back as built-in ones, or as RuntimeError, with the child's traceback as their cause.

    Raises:
        NoChildError: there is no fork, or the operating system refused it.
        ChildEndedError: the child was killed, or waited for something that never came.
    """
    if not hasattr(os, "fork"):
        raise NoChildError("this platform has no fork")
    receiver, sender = os.pipe()
    try:
        with warnings.catch_warnings():
            # Python warns of threads that hold locks: here they would show as a child that does nothing.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError as error:
        os.close(receiver)
        os.close(sender)
        raise NoChildError(f"the process cannot be forked: {error}") from error
    if child == 0:
        _answer(function, sender)
    os.close(sender)
    try:
        answer = _receive(receiver, child)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(receiver)
        status = _reap(child)
    if not answer:
        raise ChildEndedError(f"the child process of the measurement was ended by {_cause(status)}")
    returned, *content = pickle.loads(answer)
    if returned:
        return content[0]  # type: ignore[no-any-return]
    raise _rebuilt(*content)


def _answer(function: Callable[[], Any], sender: int) -> NoReturn:
    """The child's whole life. Nothing of the parent's may run in it: no destructors, exit handlers or buffers."""
    try:
        gc.disable()
        torch.set_num_threads(1)  # the parent's OpenMP threads are not here
        silence = open(os.devnull, "w")  # noqa: SIM115, to the end of the child
        os.dup2(silence.fileno(), 1)
        os.dup2(silence.fileno(), 2)
        sys.stdout = sys.stderr = silence
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        try:
            answer = pickle.dumps((True, function()))
        except BaseException as error:
            answer = pickle.dumps((False, type(error).__name__, str(error), traceback.format_exc()))
        with os.fdopen(sender, "wb") as stream:
            stream.write(answer)
    finally:
        os._exit(0)


def _receive(receiver: int, child: int) -> bytes:
    chunks: list[bytes] = []
    used, idle = 0.0, 0
    while True:
        if select.select([receiver], [], [], 1.0)[0]:
            chunk = os.read(receiver, 1 << 16)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            continue
        before, used = used, _processor_time(child)
        idle = idle + 1 if used == before else 0
        if idle >= IDLE_SECONDS:
            raise ChildEndedError(
                f"the child process of the measurement has done nothing for {idle} s: it waits for another process, or "
                "for a lock that a thread of this process held when it began. Measure before threads are started"
            )


def _processor_time(process: int) -> float:
    # The clock of a process, as clock_getcpuclockid(3) makes its number on Linux.
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:  # another system: the child is never taken to be idle
        return time.monotonic()


def _reap(child: int) -> int | None:
    with suppress(ChildProcessError):  # a handler of SIGCHLD was faster
        return os.waitpid(child, 0)[1]
    return None


def _cause(status: int | None) -> str:
    if status is not None and os.WIFSIGNALED(status):
        return f"the signal {signal.Signals(os.WTERMSIG(status)).name}"
    return "its own code"


def _rebuilt(name: str, message: str, trace: str) -> Exception:
    kind = getattr(builtins, name, None)
    error: Exception = RuntimeError(f"{name}: {message}")
    if isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(TypeError):  # some take more than a message
            error = kind(message)
    error.__cause__ = RemoteTraceback(trace)
    return error
