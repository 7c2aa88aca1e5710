"""What `layer_groups` makes of one model: right, wrong, refused, slow or harmed."""

import os
import re
import time
import traceback
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn

from lerac_fast import layer_groups
from lerac_fast.layers import groups as layers
from tests.architectures.architecture import Architecture
from tests.architectures.fingerprint import Fingerprint, fake_tensors
from tests.architectures.order import (
    check_blocks,
    check_dependencies,
    check_order,
    check_partition,
    check_unused,
    without_unused,
)
from tests.architectures.real_pass import RealPass, real_pass, seed

SLOW_SECONDS = 10


class Verdict(NamedTuple):
    library: str
    model: str
    parameters: int
    groups: int
    depths: int
    seconds: float
    processor_seconds: float
    """Of the call and the child that it measures in: unlike `seconds`, the same on a busy machine."""
    verdict: str
    reason: str


class _Measured(NamedTuple):
    groups: list[dict[str, Any]]
    unused: set[str]


def judge(architecture: Architecture) -> Verdict:
    """Needs a process of its own, as it looks for fake tensors everywhere."""
    library, name = architecture.library, architecture.name
    try:
        expected = real_pass(_built(architecture), _inputs(architecture))
        model, inputs = _built(architecture), _inputs(architecture)
    except Exception as error:
        return Verdict(library, name, 0, 0, 0, 0.0, 0.0, "does not run", _short(error))
    count = sum(p.numel() for p in model.parameters())
    before = Fingerprint(model)
    began, processor_began = time.perf_counter(), _processor_seconds()
    uses: dict[str, Any] = {}
    try:
        with mock.patch.object(layers, "first_uses", _recording(uses)):
            measured: _Measured | Exception = _measure(model, inputs)
    except Exception as error:
        measured = error
    seconds, processor_seconds = time.perf_counter() - began, _processor_seconds() - processor_began
    changed = before.differences(Fingerprint(model))
    if isinstance(measured, Exception):
        size, refusal = (0, 0), _short(measured)
    else:
        size, refusal = (len(measured.groups), len({g["depth"] for g in measured.groups})), ""

    def verdict(kind: str, reason: str = "") -> Verdict:
        return Verdict(library, name, count, *size, round(seconds, 2), round(processor_seconds, 2), kind, reason)

    if harm := _harm(model, inputs, changed, expected):
        return verdict("harmed", harm)
    if isinstance(measured, Exception):
        return verdict("refused", refusal)
    if faults := _faults(model, inputs, architecture, measured, expected, uses):
        return verdict("wrong", "; ".join(faults[:3]) + (f"; {len(faults) - 3} more" if len(faults) > 3 else ""))
    if processor_seconds > SLOW_SECONDS:
        return verdict("slow")
    return verdict("right")


def _built(architecture: Architecture) -> nn.Module:
    seed(0)
    return architecture.build().float().train(architecture.training)


def _inputs(architecture: Architecture) -> Any:
    seed(2)
    return architecture.inputs()


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _recording(uses: dict[str, Any]) -> Callable[..., Any]:
    """`first_uses`, which takes nearly all of the time, of which the answer is kept for a second grouping."""
    original = layers.first_uses

    def recording(*arguments: Any) -> Any:
        uses.update(original(*arguments))
        return uses

    return recording


def _measure(model: nn.Module, inputs: Any, **options: Any) -> _Measured:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        groups = layer_groups(model, example_inputs=inputs, **options)
    messages = [match[1] for w in caught if (match := re.search(r"does not use (.*): ordered last", str(w.message)))]
    return _Measured(groups, {name for message in messages for name in message.split(", ")})


def _harm(model: nn.Module, inputs: Any, changed: list[str], expected: RealPass) -> str:
    if changed:
        return f"changed: {', '.join(changed[:4])}" + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
    if count := fake_tensors():
        return f"{count} fake tensors are left"
    try:
        gradients = real_pass(model, inputs).gradients
    except Exception as error:
        return f"the model no longer runs: {_short(error)}"
    if gradients.keys() != expected.gradients.keys():
        return f"other parameters have gradients: {sorted(gradients.keys() ^ expected.gradients.keys())[:3]}"
    unlike = [n for n, g in gradients.items() if not torch.equal(g.nan_to_num(), expected.gradients[n].nan_to_num())]
    return f"other gradients: {', '.join(unlike[:3])}" if unlike else ""


def _faults(
    model: nn.Module,
    inputs: Any,
    architecture: Architecture,
    measured: _Measured,
    expected: RealPass,
    uses: dict[str, Any],
) -> list[str]:
    groups, unused = measured
    faults = chain(
        check_partition(model, groups),
        check_unused(unused, expected.gradients),
        check_dependencies(model, groups, expected.before, unused),
    )
    return [*faults, *_faults_of_blocks(model, inputs, architecture, uses)]


def _faults_of_blocks(model: nn.Module, inputs: Any, architecture: Architecture, uses: dict[str, Any]) -> list[str]:
    prefixes = {n[: m.start()] for n, _ in model.named_parameters() for m in re.finditer(r"\.", n)}
    if not any(re.fullmatch(architecture.blocks, prefix) for prefix in prefixes):
        return []
    with mock.patch.object(layers, "first_uses", return_value=uses):
        groups, unused = _measure(model, inputs, by=architecture.blocks)
    used = without_unused(model, groups, unused)
    faults = chain(
        check_partition(model, groups),
        check_blocks(used, architecture.blocks),
        check_order(used, architecture.order),
    )
    return [f"by blocks: {fault}" for fault in faults]


def _short(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} ({where.filename.rpartition('/')[2]}:{where.lineno})"
