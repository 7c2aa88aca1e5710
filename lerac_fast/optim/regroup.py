"""A state dict for other param groups than those that wrote it: what a parameter has moves with its name."""

import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lerac_fast.optim._checkpoint import unwrapped
from lerac_fast.optim._sharding import whole_shape

_IDENTITY = {"params", "param_names", "name", "depth"}  # what a group is, not what it was set to
_IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}  # how it is stepped
# States of torch.optim's classes that have their parameter's shape.
_ELEMENTWISE = {
    *("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf"),
    *("sum", "square_avg", "acc_delta", "grad_avg", "prev", "ax"),
}


def regroup(
    state_dict: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    *,
    names: Iterable[tuple[str, Tensor]] | None = None,
    saved_names: Iterable[str] | None = None,
    saved_hyperparameters: bool = False,
    strict: bool = True,
) -> dict[str, Any]:
    """A state dict for the param groups of `optimizer`, from one of any other layout of groups.

        saved = torch.load("adamw.pt")  # of one group, or two: decay and no decay
        optimizer = AdamW(layer_groups(model))
        optimizer.load_state_dict(regroup(saved, optimizer))

    Parameters are matched by their names; what wrappers of a model put into names does not count. Names are in the
    groups (`param_names`) where these are of `layer_groups`, or the optimizer was given `model.named_parameters()` or
    groups of such pairs. Without, give `names` for the optimizer and `saved_names` for the state dict. The optimizers
    may be torch's. The time grows with the number of parameters. Nothing is sent to other processes.

    What `torch.distributed.checkpoint.state_dict.get_optimizer_state_dict` returns is taken as well, flattened or not:
    it names the parameters itself. The result then names them, too, and both `optimizer.load_state_dict` and
    `set_optimizer_state_dict` take it. Of whole states, the first, of the optimizers here, keeps each process's part;
    the second shards them for torch's optimizers too, or sends them to all ranks.

    Args:
        state_dict: is not changed. The result shares its tensors.
        optimizer: is not changed.
        names: pairs of a name and a parameter of `optimizer`, such as `model.named_parameters()`. Read where its
            groups have no `param_names`.
        saved_names: the names of the parameters in `state_dict`, in the order of its groups: for a single group of
            `model.parameters()`, `dict(model.named_parameters())`. Read where it has no names itself.
        saved_hyperparameters: gives each group the hyperparameters that its parameters were saved with, in place of
            its own. Those that say how it is stepped (`foreach`, `fused`, `capturable`, `differentiable`) stay its own.
        strict: raises an error if the parameters differ. False skips those that do: what only `optimizer` has, or has
            in another shape, begins without a state.

    Returns:
        A new state dict. Like `name` and `depth`, hyperparameters are those of the groups of `optimizer`. A warning
        tells which entries of the saved groups are lost: those that groups of `optimizer` do not have, and another
        `initial_lr`.

    Raises:
        ValueError: parameters are missing, are not in `optimizer` or have another shape (with `strict`; the message
            names all of them), or none is the same; names are unknown or not distinct; or a group would get
            different saved hyperparameters.
    """
    own = _own_parameters(optimizer, names)
    saved = _match_names(_read(state_dict, saved_names), own)
    reshaped = _reshaped(saved, own)
    _check_match(saved, own, reshaped, strict)
    result = _Result(saved)
    place = 0
    for group in optimizer.param_groups:
        members = own[place : place + len(group["params"])]
        place += len(members)
        result.add_group(group, members, reshaped, saved_hyperparameters)
    if result.lost:
        warnings.warn(
            f"regroup drops {', '.join(map(repr, sorted(result.lost)))} of the saved param groups, which the groups of "
            "the optimizer do not have, or not of this value",
            stacklevel=2,
        )
    return {**saved.rest, "state": result.state | saved.other_states, "param_groups": result.groups}


class _Parameter(NamedTuple):
    name: str
    param: Tensor


class _Entry(NamedTuple):
    """A parameter in a state dict."""

    identifier: Hashable
    group: Mapping[str, Any]
    state: Mapping[str, Any] | None


@dataclass
class _Saved:
    entries: dict[str, _Entry]
    by_name: bool  # identifiers are names
    other_states: dict[Any, Any]  # of no parameter
    rest: dict[str, Any]


@dataclass
class _Result:
    """A state dict in the making."""

    saved: _Saved
    lost: set[str] = field(default_factory=set)
    state: dict[Any, Any] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)
    _count: int = 0

    def add_group(
        self, group: dict[str, Any], members: list[_Parameter], reshaped: Mapping[str, Any], saved_options: bool
    ) -> None:
        entries = {name: entry for name, _ in members if (entry := self.saved.entries.get(name)) is not None}
        origins = {id(entry.group): (name, entry.group) for name, entry in reversed(entries.items())}
        options = {key: value for key, value in group.items() if key != "params"}
        if "param_names" in options:
            options["param_names"] = list(options["param_names"])
        for _, origin in origins.values():
            self.lost |= _lost(origin, group)
        if saved_options:
            options |= _saved_options(len(self.groups), group, [*origins.values()])
        self.groups.append({**options, "params": [self._add(name, entries.get(name), reshaped) for name, _ in members]})

    def _add(self, name: str, entry: _Entry | None, reshaped: Mapping[str, Any]) -> Hashable:
        identifier: Hashable = self._count
        self._count += 1
        if self.saved.by_name:
            identifier = entry.identifier if entry is not None else unwrapped(name)
        if entry is not None and entry.state is not None and name not in reshaped:
            self.state[identifier] = dict(entry.state)
        return identifier


def _own_parameters(optimizer: torch.optim.Optimizer, names: Iterable[tuple[str, Tensor]] | None) -> list[_Parameter]:
    known: dict[int, str] = {}
    for name, param in names.items() if isinstance(names, Mapping) else names or ():
        known.setdefault(id(param), name)
    parameters: list[_Parameter] = []
    for index, group in enumerate(optimizer.param_groups):
        params = group["params"]
        own = group.get("param_names")
        if own is None and params and not known:
            raise ValueError(
                f"param group {index} of the optimizer has no param_names. Give names=model.named_parameters(), or "
                "build the optimizer of named parameters"
            )
        given = [known.get(id(param)) for param in params] if own is None else list(own)
        if len(given) != len(params):
            raise ValueError(
                f"param group {index} of the optimizer has {len(params)} parameters and {len(given)} names"
            )
        for place, (name, param) in enumerate(zip(given, params, strict=True)):
            if name is None:
                raise ValueError(
                    f"names has none for parameter {place} of param group {index}, of shape {tuple(param.shape)}"
                )
            parameters.append(_Parameter(name, param))
    _check_names_distinct([name for name, _ in parameters], "the optimizer")
    return parameters


def _read(state_dict: Mapping[str, Any], saved_names: Iterable[str] | None) -> _Saved:
    if "state" in state_dict and "param_groups" in state_dict:
        return _read_groups(state_dict, saved_names)
    if any(isinstance(key, str) and key.startswith("param_groups.") for key in state_dict):
        return _read_flattened(state_dict)
    raise ValueError(f"not the state dict of an optimizer: it has the keys {', '.join(map(repr, [*state_dict][:5]))}")


def _read_groups(state_dict: Mapping[str, Any], saved_names: Iterable[str] | None) -> _Saved:
    groups, states = state_dict["param_groups"], state_dict["state"]
    places = [(identifier, group) for group in groups for identifier in group["params"]]
    by_name = bool(places) and all(isinstance(identifier, str) for identifier, _ in places)
    names = _saved_names(groups, places, by_name, saved_names)
    _check_names_distinct(names, "the state dict")
    entries = {
        name: _Entry(identifier, group, states.get(identifier))
        for name, (identifier, group) in zip(names, places, strict=True)
    }
    identifiers = {identifier for identifier, _ in places}
    others = {key: value for key, value in states.items() if key not in identifiers}
    if lone := [key for key in others if isinstance(key, int)]:
        raise ValueError(f"the state dict has states of parameters that are in none of its groups: {lone}")
    rest = {key: value for key, value in state_dict.items() if key not in ("state", "param_groups")}
    return _Saved(entries, by_name, others, rest)


def _saved_names(
    groups: Iterable[Mapping[str, Any]], places: list[tuple[Any, Any]], by_name: bool, given: Iterable[str] | None
) -> list[str]:
    if all(len(group.get("param_names") or ()) == len(group["params"]) for group in groups):
        return [name for group in groups for name in group.get("param_names") or ()]
    if by_name:
        return [identifier for identifier, _ in places]
    if given is None:
        raise ValueError(
            "the state dict has no param_names. Give saved_names, the names of its parameters in the order of its "
            "groups: for one group of model.parameters(), dict(model.named_parameters())"
        )
    names = list(given)
    if len(names) != len(places):
        raise ValueError(f"saved_names has {len(names)} names, and the state dict {len(places)} parameters")
    return names


def _read_flattened(state_dict: Mapping[str, Any]) -> _Saved:
    """Of keys such as `param_groups.NAME.lr` and `state.NAME.exp_avg`, and deeper ones where states are nested."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in state_dict.items():
        section, _, path = key.partition(".")
        if section == "param_groups":
            name, _, option = path.rpartition(".")
            groups.setdefault(name, {})[option] = value
    states: dict[str, dict[str, Any]] = {}
    for key, value in state_dict.items():
        section, _, path = key.partition(".")
        if section == "state":
            name = next((prefix for prefix in _prefixes(path) if prefix in groups), "")
            if not name:
                raise ValueError(f"the state dict has {key!r} and no param group of it")
            *outer, last = path[len(name) + 1 :].split(".")
            inner = states.setdefault(name, {})
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = value
    return _Saved({name: _Entry(name, group, states.get(name)) for name, group in groups.items()}, True, {}, {})


def _prefixes(path: str) -> Iterator[str]:
    return accumulate(path.split("."), "{}.{}".format)


def _check_names_distinct(names: list[str], where: str) -> None:
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise ValueError(f"parameters of {where} have the same name: {', '.join(map(repr, twice))}")


def _match_names(saved: _Saved, own: list[_Parameter]) -> _Saved:
    """Gives what was saved the names that the optimizer has, which differ in what wrappers put into them."""
    here = {unwrapped(name): name for name, _ in own}
    there = {name: unwrapped(name) for name in saved.entries}
    if len(here) == len(own) and len(set(there.values())) == len(there):  # else a module has the name of a wrapper
        saved.entries = {here.get(there[name], name): entry for name, entry in saved.entries.items()}
    return saved


def _reshaped(saved: _Saved, own: list[_Parameter]) -> dict[str, str]:
    """What does not fit, in words, by the name of the parameter."""
    found: dict[str, str] = {}
    for name, param in own:
        entry, shape = saved.entries.get(name), whole_shape(param)
        for key, value in (entry.state or {}).items() if entry is not None and shape is not None else ():
            if key in _ELEMENTWISE and isinstance(value, Tensor) and value.shape != shape:
                found[name] = f"{name!r} ({shape} here, {tuple(value.shape)} in its {key!r})"
                break
    return found


def _check_match(saved: _Saved, own: list[_Parameter], reshaped: Mapping[str, str], strict: bool) -> None:
    here = {name for name, _ in own}
    missing = [repr(name) for name, _ in own if name not in saved.entries]
    extra = [repr(name) for name in saved.entries if name not in here]
    differences = {"missing": missing, "not in the optimizer": extra, "of another shape": [*reshaped.values()]}
    text = "; ".join(f"{what}: {', '.join(of)}" for what, of in differences.items() if of)
    if strict and text:
        raise ValueError(f"the state dict is of other parameters than the optimizer. {text}. strict=False skips them")
    if own and saved.entries and len(missing) == len(own):
        raise ValueError(f"the state dict has no parameter of the optimizer. {text}")


def _lost(saved: Mapping[str, Any], group: Mapping[str, Any]) -> set[str]:
    lost = saved.keys() - group.keys() - _IDENTITY - _IMPLEMENTATION
    rates = [of["initial_lr"] for of in (saved, group) if "initial_lr" in of]
    return lost | ({"initial_lr"} if len(rates) == 2 and not _equal(*rates) else set())


def _saved_options(
    index: int, group: Mapping[str, Any], origins: list[tuple[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, origin in origins:
        for key in group.keys() & origin.keys() - _IDENTITY - _IMPLEMENTATION - {"initial_lr"}:
            if not _equal(options.setdefault(key, origin[key]), origin[key]):
                raise ValueError(
                    f"param group {index} would get different saved hyperparameters: {key!r} is {origin[key]!r} for "
                    f"{name!r} and {options[key]!r} for {origins[0][0]!r}. Leave saved_hyperparameters out, or build "
                    "groups whose parameters were saved with the same"
                )
    return options


def _equal(first: Any, second: Any) -> bool:
    """Of two hyperparameters: numbers, tensors of one element, or tuples of them."""
    return first is second or bool(first == second)
