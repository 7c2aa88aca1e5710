"""Follows the data through one forward pass, operation by operation, and notes where it first meets each parameter.

Tensors that are computed from parameters alone (views, reparametrizations, position embeddings, learned queries
and the layers they go through) are pending: their parameters count as used where they meet the data.
"""

import functools
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdRef

_Storage: TypeAlias = StorageWeakRef | WeakIdRef
Role: TypeAlias = Literal["norm", "bias"]


class FirstUse(NamedTuple):
    """Where the data first meets a parameter. Sorts from the input of the model to its output."""

    depth: int
    """One more than the largest depth among the inputs of the operation."""
    order: int
    """The operation's number in order of execution; parameters first used by one operation share it."""
    after: str | None
    """A parameter of the operation that made this one's deepest input; None for the model's own input."""
    role: Role | None = None
    """What it does to the data, if that makes it part of the layer whose output it follows: a norm's scale or
    shift, by which normalised data is scaled or shifted element by element, or a bias, a vector that is added."""
    measured: bool = True
    """By a forward pass, not by the order of registration or one that was given."""
    deepest: int = 0
    """The largest depth of its uses on data that has not gone through it before: an attention projects its queries
    and, deeper, what they attend to by one weight."""

    @property
    def position(self) -> tuple[int, int]:
        """In the order of the data."""
        return self.depth, self.order


class _Reach(NamedTuple):
    """How the data has come to a tensor; the largest is the deepest, and of these the latest."""

    depth: int
    order: int
    source: str | None
    passed: int
    """The numbers of the parameters that it has gone through, as a set of bits."""


class _Pending(NamedTuple):
    """A parameter in a tensor that is computed from parameters alone."""

    position: int
    """In the chain of modules that the tensor has gone through, from 1."""
    after: str | None
    role: Role | None


_NORM = re.compile(r"(layer|group|batch|instance|rms)_norm")
# What data is divided by when it is normalised by hand.
_STATISTICS = {"rsqrt", "sqrt", "std", "std_mean", "linalg_vector_norm", "norm"}
_ADDITIONS = {"add", "sub", "rsub"}
_COPIES = {"_to_copy", "to", "clone", "contiguous", "lift_fresh", "type_as"}


class DataFlow(TorchDispatchMode):
    """Keeps, for the storage of every tensor, how the data has come to it or which parameters it is made of.

    By storage, not by tensor, so that what is written through a view reaches the tensor that it views.

    Args:
        stand_in: what takes the place of a tensor on another device than the CPU, that the model holds where no
            stand-in was put before, and whether operations that name a device are run on the CPU. None on real
            tensors.
    """

    supports_higher_order_operators = True

    def __init__(self, stand_in: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.uses: dict[str, FirstUse] = {}
        self._stand_in = stand_in
        self._stand_ins: dict[int, tuple[Tensor, Tensor]] = {}  # by the id of the tensor, which is kept alive
        self._reached: dict[_Storage, _Reach] = {}
        self._made_of: dict[_Storage, dict[str, _Pending]] = {}
        self._parameters: set[_Storage] = set()
        self._modules: dict[str, str] = {}
        self._bits: dict[str, int] = {}
        self._vectors: set[str] = set()
        self._statistics: set[_Storage] = set()
        self._normalised: set[_Storage] = set()
        self._operations = 0

    def start(self, inputs: Iterable[Tensor]) -> None:
        """The data begins at these tensors."""
        for tensor in inputs:
            self._reached[_storage(tensor)] = _Reach(0, 0, None, 0)

    def add_parameter(self, name: str, module: str, tensor: Tensor) -> None:
        """`tensor` is the parameter `name` of the module at path `module`."""
        storage = _storage(tensor)
        self._parameters.add(storage)
        self._modules[name] = module
        self._bits.setdefault(name, 1 << len(self._bits))
        if is_vector(tensor):
            self._vectors.add(name)
        self._made_of.setdefault(storage, {})[name] = _Pending(1, None, None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        _check_local(func)
        args, kwargs = self._on_the_cpu((args, kwargs or {}))
        operands = _tensors((args, kwargs))
        read = [_storage(tensor) for tensor in operands]
        result = func(*args, **kwargs)
        outputs = _tensors((result, _mutated(func, args, kwargs)))
        written = [storage for storage in map(_storage, outputs) if storage not in self._parameters]

        operation = _operation_name(func)
        elementwise = _is_elementwise(func, operation)
        normalised = elementwise and any(storage in self._normalised for storage in read)
        pending = self._pending_of(read, operation, elementwise)
        reaches = [self._reached[storage] for storage in read if storage in self._reached]
        if reaches:
            passed = functools.reduce(operator.or_, (reach.passed for reach in reaches))
            reached = max(reaches)._replace(passed=passed)
            self._follow_normalisation(operation, elementwise and not pending, args, operands, outputs)
            if pending:
                role = self._role_of(operation, elementwise, normalised)
                reached = self._use(pending, reached, role)
            for storage in written:  # Embedding(max_norm=...) writes to its weight, which stays one
                self._reached[storage] = reached
                self._made_of.pop(storage, None)
        elif pending:
            self._made_of.update((storage, pending) for storage in written)
        return result

    def _on_the_cpu(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._stand_in is None:
            return arguments
        cpu = torch.device("cpu")
        replaced = tree_map_only(Tensor, self._replaced, arguments)
        return tree_map_only(torch.device, lambda _: cpu, replaced)  # type: ignore[no-any-return]

    def _replaced(self, tensor: Tensor) -> Tensor:
        if tensor.is_cpu or isinstance(tensor, FakeTensor):
            return tensor
        assert self._stand_in is not None
        if id(tensor) not in self._stand_ins:
            self._stand_ins[id(tensor)] = tensor, self._stand_in(tensor)
        return self._stand_ins[id(tensor)][1]

    def _pending_of(self, read: list[_Storage], operation: str, elementwise: bool) -> dict[str, _Pending]:
        """The parameters that an operation reads, itself or in what was made of them, and where in the chain."""
        derived: dict[str, _Pending] = {}
        direct: list[str] = []
        for storage in read:
            if storage in self._parameters:
                direct.extend(self._made_of[storage])
            else:
                derived.update(self._made_of.get(storage, {}))
        if not derived and direct:  # the first operand of a layer is what it is applied to
            derived[direct[0]] = _Pending(1, None, None)
        if not derived:
            return derived
        length = max(pending.position for pending in derived.values())
        modules = {self._modules[name] for name in derived}
        last = next(name for name, pending in derived.items() if pending.position == length)
        for name in direct:
            if name in derived:
                continue
            # A weight in several parts, as of a reparametrization, is one step of the chain.
            if elementwise or self._modules[name] in modules:
                derived[name] = _Pending(length, derived[last].after, None)
            else:
                derived[name] = _Pending(length + 1, last, "norm" if _NORM.search(operation) else None)
        return derived

    def _follow_normalisation(
        self, operation: str, elementwise: bool, args: Any, operands: list[Tensor], outputs: list[Tensor]
    ) -> None:
        """Notes what was divided by a statistic of the data, with operations of torch that do not say so."""
        written = set(map(_storage, outputs))
        statistics = [t for t in operands if elementwise and _storage(t) in self._statistics]
        elements = max((t.numel() for t in outputs), default=0)
        whole = [_storage(t) in self._normalised for t in operands if t.numel() == elements]
        divided = any(t.numel() < elements for t in statistics)
        self._statistics -= written
        self._normalised -= written
        if operation in _STATISTICS or (operation == "pow" and args[1:] in ((0.5,), (-0.5,))):
            self._statistics |= written
        elif divided or (elementwise and whole and all(whole)):
            self._normalised |= written
        elif statistics:
            self._statistics |= written

    def _role_of(self, operation: str, elementwise: bool, normalised: bool) -> Callable[[str], Role | None]:
        def role(name: str) -> Role | None:
            if _NORM.search(operation):
                return "norm"
            if not elementwise or name not in self._vectors:
                return None
            if normalised:
                return "norm"
            return "bias" if operation in _ADDITIONS else None

        return role

    def _use(self, parameters: Mapping[str, _Pending], reached: _Reach, role: Callable[[str], Role | None]) -> _Reach:
        self._operations += 1
        length = max(pending.position for pending in parameters.values())
        passed = reached.passed
        for name, (position, after, pending_role) in parameters.items():
            use = FirstUse(
                reached.depth + position,
                self._operations,
                reached.source if after is None else after,
                pending_role or (role(name) if length == 1 else None),
            )
            known = self.uses.get(name, use)
            anew = reached.passed & self._bits[name] == 0
            deepest = max(known.deepest, use.depth) if anew else known.deepest
            self.uses[name] = min(known, use, key=lambda u: u[:2])._replace(deepest=deepest)
            passed |= self._bits[name]
        last = next(name for name, pending in parameters.items() if pending.position == length)
        return _Reach(reached.depth + length, self._operations, last, passed)


def is_vector(tensor: Tensor) -> bool:
    """Whether at most one of the sizes of `tensor` is not 1."""
    return sum(size != 1 for size in tensor.shape) <= 1


def _check_local(func: Any) -> None:
    namespace = getattr(func, "namespace", "")
    if namespace in ("c10d", "_c10d_functional", "c10d_functional"):
        raise RuntimeError(
            f"it communicates with other processes ({func}), which cannot be followed: measure the model by "
            "layer_order where it is whole, and give the result as `order`"
        )


def _operation_name(func: Any) -> str:
    packet = getattr(func, "overloadpacket", None)  # higher-order operators have none
    return getattr(packet, "__name__", "").removesuffix("_")


def _is_elementwise(func: Any, operation: str) -> bool:
    tags = getattr(func, "tags", ())
    return torch.Tag.pointwise in tags or getattr(func, "is_view", False) or operation in _COPIES


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
