"""How deep in a model each parameter lies, measured by following the data through one forward pass.

The depth of a parameter is one more than the largest depth among the inputs of the operation that first
uses it; the output of an operation has the largest depth of its inputs, plus one if the operation uses
parameters. The inputs of the model have depth 0. The pass runs on stand-ins for every parameter, buffer and
input: fake tensors, which carry shapes and no values and so cost no computation, or copies where control
flow needs values. It runs in a child process, so that nothing of it is left behind.
"""

import copy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from lerac_fast._wrappers import unwrapped_name
from lerac_fast.layers._dataflow import DataFlow, FirstUse
from lerac_fast.layers._isolation import ChildEndedError, NoChildError, in_a_child
from lerac_fast.layers._sharded import is_sharded, remove_distributing_hooks
from lerac_fast.layers._traces import clear_caches_with, held, living, plain_execution, random_streams_kept

_StandIn: TypeAlias = Callable[[Tensor], Tensor]
_Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class Place(NamedTuple):
    """One of the places in a model where a parameter is registered; a tied parameter has several."""

    owner: nn.Module
    parameter: nn.Parameter


def parameter_places(model: nn.Module) -> dict[str, Place]:
    """Every place of every parameter, by its full name, as registered; a shared module counts once."""
    return {
        unwrapped_name(f"{prefix}.{name}"): Place(module, parameter)
        for prefix, module in model.named_modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    }


def first_uses(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, FirstUse]:
    """Measures where `model(*args, **kwargs)` first uses each of its parameters.

    The pass runs in evaluation mode, so that no layer is dropped at random. If it leaves parameters unused,
    there is a pass in training mode too (auxiliary heads, embeddings of masked inputs). Each runs in a forked
    child: the model, its inputs, caches of functions, random streams and all else in this process are out of
    its reach. Where the process cannot be forked, the pass runs in this one on a copy of the model's structure.

    A model that is sharded is run as if it were whole: stand-ins have the global shapes, and the hooks that gather
    parameters and distribute data are left out. There is no copy of it for a pass on values.

    Args:
        model: any module that runs in eager mode, on any device, the meta device included.
        args: its positional inputs; tensors may lie at any depth in whatever `copy.deepcopy` can copy.
        kwargs: its keyword inputs, likewise.

    Returns:
        For each name of `parameter_places` that a pass uses, its first use. Tied parameters are
        measured in each of their places.

    Raises:
        ValueError: the inputs hold no tensor, the model is one of FullyShardedDataParallel, or a part of it is compiled
            by torch.jit.
        RuntimeError: the forward pass fails on real tensors too, or communicates with other processes.
    """
    _check_followable(model)
    arguments = args, dict(kwargs)
    inputs = _tensors_in(arguments)
    if not inputs:
        raise ValueError("example_inputs and example_kwargs hold no tensor, so there is no data to follow")
    try:
        uses = _first_success(model, arguments, False, inputs)
    except NoChildError as error:
        return _trace_here(model, arguments, error)
    if len(uses) < len(parameter_places(model)):
        trained = _used_in_training(model, arguments, inputs)
        less, more = sorted((trained, uses), key=len)
        return less | more
    return uses


class _Attempt(NamedTuple):
    """A way to run the pass. Control flow may depend on values, and the pass may differentiate."""

    guard: Callable[[], AbstractContextManager[Any]]
    """Below autograd, as in inference mode, operations arrive whole (linear, conv2d, lstm) and not in their parts."""
    on_cpu: dict[int, Tensor] | None
    """None: on fake tensors. Else on copies: by id, of the tensors that lie on other devices."""


def _attempts(model: nn.Module, inputs: list[Tensor]) -> Iterator[_Attempt]:
    yield _Attempt(torch.inference_mode, None)
    if is_sharded(model):  # the values are those of all processes together
        return
    on_cpu = _on_the_cpu([*model.parameters(), *model.buffers(), *inputs])  # a forked child cannot use a GPU
    yield _Attempt(torch.inference_mode, on_cpu)
    yield _Attempt(torch.no_grad, on_cpu)


def _first_success(
    model: nn.Module, arguments: _Arguments, training: bool, inputs: list[Tensor]
) -> dict[str, FirstUse]:
    failure: Exception | None = None
    for attempt in _attempts(model, inputs):
        try:
            return in_a_child(lambda: _trace(model, arguments, attempt, training))  # noqa: B023
        except (NoChildError, ChildEndedError):  # noqa: PERF203
            raise
        except Exception as error:
            failure = error
    raise _failed(model, failure) from failure


def _used_in_training(model: nn.Module, arguments: _Arguments, inputs: list[Tensor]) -> dict[str, FirstUse]:
    try:
        return _first_success(model, arguments, True, inputs)
    except RuntimeError as error:  # what evaluation mode has shown stands
        warnings.warn(
            f"what training mode alone uses of {type(model).__name__} is not found, as there {error}",
            UserWarning,
            stacklevel=5,
        )
        return {}


def _trace(model: nn.Module, arguments: _Arguments, attempt: _Attempt, training: bool) -> dict[str, FirstUse]:
    """One pass. It changes the model beyond repair."""
    mode = FakeTensorMode(allow_non_fake_inputs=True) if attempt.on_cpu is None else None
    stand_in = _cloner(attempt.on_cpu) if attempt.on_cpu is not None else _faker(mode)
    flow = DataFlow(stand_in if mode else None)
    with plain_execution():
        inputs = _CopyTensors(stand_in)
        with inputs:
            args, kwargs = copy.deepcopy(arguments)
        flow.start(inputs.copies)
        remove_distributing_hooks(model)
        found = _replace_tensors(model, stand_in, flow)
        if not training:
            model.eval()
        elif not model.training:
            model.train()
        with mode or nullcontext(), flow, attempt.guard():
            model(*args, **kwargs)
    del found  # until here, as no tensor on a GPU may be freed in a child
    return flow.uses


def _trace_here(model: nn.Module, arguments: _Arguments, reason: NoChildError) -> dict[str, FirstUse]:
    """The pass in this process, on a copy of the model's structure.

    Modules, containers and generators are copied; caches of functions are cleared where they hold stand-ins.
    """
    others = living(FakeTensor)  # of a compiler, say
    fakes = _faker(FakeTensorMode(allow_non_fake_inputs=True))
    memo = {id(generator): generator.clone_state() for generator in held(model, torch.Generator)}
    try:
        with _CopyTensors(fakes):
            structure = copy.deepcopy(model, memo)
    except Exception as error:
        raise RuntimeError(
            f"{type(model).__name__} cannot be measured: {reason}, and the model cannot be copied: {error}"
            f"{_hint(model)}"
        ) from error
    try:
        with random_streams_kept(set()):
            uses = _trace(structure, arguments, _Attempt(torch.inference_mode, None), training=False)
    except Exception as error:
        raise RuntimeError(
            f"{_failed(model, error)} ({reason}, and without a child the pass cannot run on real tensors)"
        ) from error
    del structure, memo
    found = set(map(id, others))
    clear_caches_with([tensor for tensor in living(FakeTensor) if id(tensor) not in found])
    left = sum(id(tensor) not in found for tensor in living(FakeTensor))
    if left:
        raise RuntimeError(
            f"the forward pass of {type(model).__name__} keeps {left} tensors outside of the model, which are without "
            f"values now, as it could not run in a child process ({reason}): start anew, and leave example_inputs out"
        )
    return uses


def _failed(model: nn.Module, error: Exception | None) -> RuntimeError:
    return RuntimeError(
        f"the forward pass of {type(model).__name__} with the example inputs failed: {type(error).__name__}: {error}"
        f"{_hint(model)}"
    )


def _hint(model: nn.Module) -> str:
    return f" (as if it were not sharded). {_MEASURE_BEFORE}" if is_sharded(model) else ""


def _check_followable(model: nn.Module) -> None:
    scripted = next((m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise ValueError(f"{scripted.original_name} is compiled by torch.jit: its data cannot be followed")
    fsdp = sys.modules.get("torch.distributed.fsdp")
    wrapped = fsdp is not None and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in model.modules())
    if wrapped:
        raise ValueError(
            "the model is sharded by FullyShardedDataParallel, which keeps its parameters flat: its data cannot be "
            f"followed. {_MEASURE_BEFORE}"
        )


_MEASURE_BEFORE = "Measure the model by layer_order before it is sharded, and give the result as `order`"


def _faker(mode: FakeTensorMode | None) -> _StandIn:
    assert mode is not None

    def fake(tensor: Tensor) -> Tensor:
        # Built from the shape, so that tensors which share memory get stand-ins that do not; on the CPU, as a forked
        # child cannot use a GPU, and a meta model may make or receive tensors elsewhere.
        with mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")

    return fake


def _cloner(on_cpu: Mapping[int, Tensor]) -> _StandIn:
    def clone(tensor: Tensor) -> Tensor:
        return on_cpu.get(id(tensor), tensor).detach().clone().requires_grad_(tensor.requires_grad)

    return clone


def _on_the_cpu(tensors: list[Tensor]) -> dict[int, Tensor]:
    return {id(tensor): tensor.detach().cpu() for tensor in tensors if not (tensor.is_cpu or tensor.is_meta)}


class _CopyTensors(TorchFunctionMode):
    """Makes `copy.deepcopy` put stand-ins in the place of tensors, wherever in the inputs they lie."""

    def __init__(self, stand_in: _StandIn) -> None:
        super().__init__()
        self._stand_in = stand_in
        self.copies: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in (Tensor.__deepcopy__, Tensor.clone):  # parameters are copied by the latter
            return func(*args, **(kwargs or {}))
        self.copies.append(self._stand_in(args[0]))
        return self.copies[-1]


def _tensors_in(arguments: _Arguments) -> list[Tensor]:
    found = _CopyTensors(lambda tensor: tensor)
    with found:
        copy.deepcopy(arguments)
    return found.copies


def _replace_tensors(model: nn.Module, stand_in: _StandIn, flow: DataFlow) -> list[Tensor]:
    """Puts a stand-in in the place of every parameter and buffer. Returns what was there."""
    found: list[Tensor] = []
    for name, (owner, parameter) in parameter_places(model).items():
        module = split_name(name)[0]
        flow.add_parameter(name, module, parameter)  # forward may hold it by another way than its place
        replacement = nn.Parameter(stand_in(parameter), parameter.requires_grad)
        flow.add_parameter(name, module, replacement)
        owner._parameters[name.rpartition(".")[2]] = replacement
        found.append(parameter)
    buffers: dict[Tensor, Tensor] = {}
    for owner in model.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = buffers.setdefault(buffer, stand_in(buffer))
                found.append(buffer)
    return found


def split_name(name: str) -> tuple[str, str]:
    """The path of the module and the name of its tensor, which may be parametrized."""
    path, parametrized, tensor = f".{name}".partition(".parametrizations.")
    if parametrized:
        return path[1:], tensor.partition(".")[0]
    path, _, tensor = name.rpartition(".")
    return path, tensor
