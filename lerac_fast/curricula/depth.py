"""How deep in a model each parameter lies, measured by following the data through one forward pass.

The depth of a parameter is one more than the largest depth among the inputs of the operation that first
uses it; the output of an operation has the largest depth of its inputs, plus one if the operation uses
parameters. The inputs of the model have depth 0. The pass runs on stand-ins for every parameter, buffer and
input: fake tensors, which carry shapes and no values and so cost no computation, or copies where control
flow needs values.
"""

import copy
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdRef

_StandIn: TypeAlias = Callable[[Tensor], Tensor]
_Storage: TypeAlias = StorageWeakRef | WeakIdRef


class FirstUse(NamedTuple):
    """Where the data first meets a parameter. Sorts from the input of the model to its output."""

    depth: int
    """One more than the largest depth among the inputs of the operation."""
    order: int
    """The operation's number in order of execution; parameters first used by one operation share it."""
    after: str | None
    """A parameter of the operation that made this one's deepest input; None for the model's own input."""


class Place(NamedTuple):
    """One of the places in a model where a parameter is registered; a tied parameter has several."""

    owner: nn.Module
    parameter: nn.Parameter


def parameter_places(model: nn.Module) -> dict[str, Place]:
    """Every place of every parameter, by its full name, as registered; a shared module counts once."""
    return {
        _join(prefix, name): Place(module, parameter)
        for prefix, module in model.named_modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    }


def first_uses(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, FirstUse]:
    """Measures where `model(*args, **kwargs)` first uses each of its parameters.

    The pass runs in evaluation mode, so that no layer is dropped at random; if it leaves parameters unused
    and the model is in training mode, that mode is tried too (auxiliary heads run in it alone). The model
    is left as it was found: parameters, buffers, attributes, training flags and random state. What the
    forward pass writes elsewhere (a global cache, a hook's closure) cannot be restored and would hold
    stand-ins.

    Args:
        model: any module that runs in eager mode, on any device, the meta device included.
        args: its positional inputs; tensors may lie at any depth in whatever `copy.deepcopy` can copy.
        kwargs: its keyword inputs, likewise.

    Returns:
        For each name of :func:`parameter_places` that the pass uses, its first use. Tied parameters are
        measured in each of their places.

    Raises:
        ValueError: the inputs hold no tensor, or a part of the model is compiled by torch.jit.
        RuntimeError: the forward pass fails on real tensors too.
    """
    scripted = next((m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise ValueError(f"{scripted.original_name} is compiled by torch.jit: its data cannot be followed")
    uses = _trace_evaluation(model, args, kwargs)
    if model.training and len(uses) < len(parameter_places(model)):
        with suppress(Exception):  # what evaluation mode has shown stands
            trained = _trace(model, args, kwargs, _ATTEMPTS[0], evaluate=False)
            uses = max(uses, trained, key=len)
    return uses


class _Attempt(NamedTuple):
    fake: bool
    guard: Callable[[], AbstractContextManager[Any]]


# Below autograd, as in inference mode, operations arrive whole (linear, conv2d, lstm) and not in their parts.
_ATTEMPTS = (
    _Attempt(fake=True, guard=torch.inference_mode),
    _Attempt(fake=False, guard=torch.inference_mode),  # control flow depends on values
    _Attempt(fake=False, guard=torch.no_grad),  # the forward pass differentiates (forces from an energy)
)


class _NoTensor(ValueError):
    """The example inputs hold no tensor, which no other attempt would mend."""


def _trace_evaluation(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, FirstUse]:
    failure: Exception | None = None
    for attempt in _ATTEMPTS:
        try:
            return _trace(model, args, kwargs, attempt, evaluate=True)
        except _NoTensor:  # noqa: PERF203
            raise
        except Exception as error:
            failure = error
    raise RuntimeError(
        f"the forward pass of {type(model).__name__} with the example inputs failed: "
        f"{type(failure).__name__}: {failure}"
    ) from failure


def _trace(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    attempt: _Attempt,
    *,
    evaluate: bool,
) -> dict[str, FirstUse]:
    mode = FakeTensorMode(allow_non_fake_inputs=True) if attempt.fake else None
    stand_in = _faker(mode) if mode else _clone
    flow = _DataFlow()
    with left_as_found(model), plain_execution():
        inputs = _CopyTensors(stand_in)
        with inputs:
            args, kwargs = copy.deepcopy((args, dict(kwargs)))
        if not inputs.copies:
            raise _NoTensor("example_inputs and example_kwargs hold no tensor, so there is no data to follow")
        flow.start(inputs.copies)
        _replace_tensors(model, stand_in, flow)
        if evaluate:
            model.eval()
        with mode or nullcontext(), flow, attempt.guard():
            model(*args, **kwargs)
    return flow.uses


class _Reach(NamedTuple):
    """How the data has come to a tensor; the largest is the deepest, and of these the latest."""

    depth: int
    order: int
    source: str | None


class _DataFlow(TorchDispatchMode):
    """Keeps, for the storage of every tensor, how the data has come to it or which parameters it is made of.

    By storage, not by tensor, so that what is written through a view reaches the tensor that it views.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.uses: dict[str, FirstUse] = {}
        self._reached: dict[_Storage, _Reach] = {}
        # Parameters, and what is computed from them alone: views, reparametrizations, position embeddings.
        # They count as used only where they meet the data. A dict serves as an ordered set of names.
        self._made_of: dict[_Storage, dict[str, None]] = {}
        self._parameters: set[_Storage] = set()
        self._operations = 0

    def start(self, inputs: Iterable[Tensor]) -> None:
        for tensor in inputs:
            self._reached[_storage(tensor)] = _Reach(0, 0, None)

    def add_parameter(self, name: str, tensor: Tensor) -> None:
        storage = _storage(tensor)
        self._parameters.add(storage)
        self._made_of.setdefault(storage, {})[name] = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        read = [_storage(tensor) for tensor in _tensors((args, kwargs))]
        result = func(*args, **kwargs)
        written = [_storage(tensor) for tensor in _tensors((result, _mutated(func, args, kwargs)))]

        names = {name: None for storage in read for name in self._made_of.get(storage, ())}
        reached = max((self._reached[storage] for storage in read if storage in self._reached), default=None)
        if reached is not None:
            if names:
                reached = self._use(names, reached)
            for storage in written:
                if storage not in self._parameters:  # Embedding(max_norm=...) writes to its weight
                    self._reached[storage] = reached
                    self._made_of.pop(storage, None)
        elif names:
            self._made_of.update((storage, names) for storage in written if storage not in self._parameters)
        return result

    def _use(self, names: Iterable[str], reached: _Reach) -> _Reach:
        self._operations += 1
        use = FirstUse(reached.depth + 1, self._operations, reached.source)
        for name in names:
            self.uses[name] = min(self.uses.get(name, use), use)
        return _Reach(use.depth, use.order, next(iter(names)))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> _Storage:
    # A weak reference keeps the address from being given to another storage, and the memory from being held.
    if tensor.layout is torch.strided:
        return StorageWeakRef(tensor.untyped_storage())
    return WeakIdRef(tensor)


def _mutated(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments that an operation writes to: custom operations need not return them."""
    schema = getattr(func, "_schema", None)  # higher-order operators have none
    if schema is None or not schema.is_mutable:
        return []
    given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | dict(kwargs)
    return [given[argument.name] for argument in schema.arguments if argument.is_write and argument.name in given]


def _faker(mode: FakeTensorMode) -> _StandIn:
    def fake(tensor: Tensor) -> Tensor:
        # Built from the shape, so that tensors which share memory get stand-ins that do not. A meta model may
        # make or receive tensors on the CPU: the devices must agree, and which one it is costs nothing.
        device = torch.device("cpu") if tensor.is_meta else tensor.device
        with mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    return fake


def _clone(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


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


def _replace_tensors(model: nn.Module, stand_in: _StandIn, flow: _DataFlow) -> None:
    """Puts a stand-in in the place of every parameter and buffer, until `left_as_found` restores them."""
    for name, (owner, parameter) in parameter_places(model).items():
        flow.add_parameter(name, parameter)  # forward may hold it by another way than its place
        replacement = nn.Parameter(stand_in(parameter.detach()), parameter.requires_grad)
        flow.add_parameter(name, replacement)
        owner._parameters[name.rpartition(".")[2]] = replacement
    buffers: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffers.setdefault(buffer, stand_in(buffer))


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Restores the attributes of all modules, the dicts, lists and sets among them, and the random state."""
    found = [
        (container, list(container.items() if isinstance(container, dict) else container))
        for module in list(model.modules())
        for container in (module.__dict__, *module.__dict__.values())
        if isinstance(container, dict | list | set)
    ]
    python_state = random.getstate()
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            for device in devices:
                if device.type not in ("cpu", "meta"):
                    stack.enter_context(torch.random.fork_rng([device], device_type=device.type))
            yield
    finally:
        random.setstate(python_state)
        for container, content in found:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)


@contextmanager
def plain_execution() -> Iterator[None]:
    """Turns off what runs many layers as one operation: compiled code and the fused transformer layer."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            # Recurrent modules on a GPU look at the addresses of their weights, and fake ones have none.
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def _join(prefix: str, name: str) -> str:
    """A full name without the component that `torch.compile` adds to the path of a compiled submodule."""
    return ".".join(part for part in (*prefix.split("."), name) if part not in ("", "_orig_mod"))
