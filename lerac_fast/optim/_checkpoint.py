"""What the optimizers add to torch's loading of a state dict."""

from typing import Any

import torch
from torch import Tensor

_IDENTITY = ("name", "depth")  # what a param group is, not what it was set to: a checkpoint does not change it
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # of modules, in names


def check_names(saved_groups: list[dict[str, Any]], groups: list[dict[str, Any]]) -> None:
    """ValueError where states would go to groups or parameters of other names.

    Names that only one side has are not compared: torch's checkpoints have none.
    """
    for index, (saved, group) in enumerate(zip(saved_groups, groups, strict=False)):  # torch compares the numbers
        where = f"param group {index}"
        _check_name(where, saved.get("name"), group.get("name"))
        names = zip(saved.get("param_names") or (), group.get("param_names") or (), strict=False)
        for place, (saved_name, name) in enumerate(names):
            _check_name(f"{where}, parameter {place}", saved_name, name)


def _check_name(where: str, saved: Any, name: Any) -> None:
    if saved is None or name is None or _unwrapped(saved) == _unwrapped(name):
        return
    raise ValueError(
        f"{where} is {name!r} here and {saved!r} in the state dict, whose states would go to other parameters. Build "
        "the param groups in the order of the state dict; or, to load by position all the same, delete 'name' and "
        "'param_names' from its param groups"
    )


def _unwrapped(name: Any) -> Any:
    return [part for part in name.split(".") if part not in _WRAPPERS] if isinstance(name, str) else name


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
