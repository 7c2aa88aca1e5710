"""What the optimizers add to torch's loading of a state dict."""

import copy
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

# What a param group is, not what it was set to: a checkpoint does not change it.
_IDENTITY = ("name", "depth", "param_names")
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # of modules, in names


def check_names(saved_groups: list[dict[str, Any]], groups: list[dict[str, Any]]) -> None:
    """ValueError where states would go to groups or parameters of other names.

    Names that only one side has are not compared: torch's checkpoints have none. Names of groups do not count where
    those of all of its parameters are known.
    """
    for index, (saved, group) in enumerate(zip(saved_groups, groups, strict=False)):  # torch compares the numbers
        where = f"param group {index}"
        names = [*zip(_parameter_names(saved), group.get("param_names") or (), strict=False)]
        for place, (saved_name, name) in enumerate(names):
            _check_name(f"{where}, parameter {place}", saved_name, name)
        if len(names) < len(group["params"]):
            _check_name(where, saved.get("name"), group.get("name"))


def _parameter_names(saved: dict[str, Any]) -> Sequence[Any]:
    """torch.distributed.checkpoint identifies parameters by their names, and may have others in `param_names`: those
    that they were grouped with when they were saved."""
    identifiers = saved["params"]
    return identifiers if any(isinstance(of, str) for of in identifiers) else saved.get("param_names") or ()


def _check_name(where: str, saved: Any, name: Any) -> None:
    if saved is None or name is None or unwrapped(saved) == unwrapped(name):
        return
    raise ValueError(
        f"{where} is {name!r} here and {saved!r} in the state dict, whose states would go to other parameters. Load "
        "what lerac_fast.optim.regroup(state_dict, optimizer) makes of it; or build the param groups in the order of "
        "the state dict; or, to load by position all the same, delete 'name' and 'param_names' from its param groups"
    )


def unwrapped(name: Any) -> Any:
    """A name without what wrappers of modules add to it; what is no string, as it is."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) if isinstance(name, str) else name


def keep_identity(before: list[dict[str, Any]], groups: list[dict[str, Any]]) -> None:
    """Gives param groups that were loaded what they were before."""
    for old, new in zip(before, groups, strict=True):
        new.update({key: old[key] for key in _IDENTITY if key in old})


def restore_float32_states(loaded: dict[str, Any], groups: list[dict[str, Any]], states: dict[Any, Any]) -> None:
    """Takes the float32 states of 16-bit parameters as they are in the state dict that was loaded."""
    for saved_group, group in zip(loaded["param_groups"], groups, strict=True):
        for identifier, param in zip(saved_group["params"], group["params"], strict=True):
            if param.dtype not in (torch.bfloat16, torch.float16):
                continue
            for key, value in loaded["state"].get(identifier, {}).items():
                if isinstance(value, Tensor) and value.dtype == torch.float32 and key != "step":
                    states[param][key] = value.to(param.device)


class _Policies(list[dict[str, Any]]):
    """Saved param groups for torch to load: it walks few of them for every tensor, and copies all."""

    def __init__(self, policies: list[dict[str, Any]], groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(policies)
        self._groups = groups

    def __deepcopy__(self, memo: dict[int, Any]) -> list[dict[str, Any]]:
        return copy.deepcopy(list(self._groups), memo)


def policies_alone(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Saved param groups that torch loads in a time that grows with their number, not with its square.

    For every state tensor, torch looks for the group of its parameter, to know where a `step` belongs. It finds one of
    a few, each of all parameters that are treated alike.
    """
    policies: dict[tuple[bool, bool], dict[str, Any]] = {}
    seen: set[Hashable] = set()
    for group in groups:
        fused, capturable = bool(group.get("fused")), bool(group.get("capturable"))
        start = {"params": set(), "fused": fused, "capturable": capturable}
        policy = policies.setdefault((fused, capturable), start)
        policy["params"].update(identifier for identifier in group["params"] if identifier not in seen)
        seen.update(group["params"])
    return _Policies(list(policies.values()), groups)
