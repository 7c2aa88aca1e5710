"""What a step asks of DTensors before torch's own step, which would raise half-way, gets to see them; and states of
whole tensors for them."""

import sys
from typing import Any

from torch import Tensor


def _is_dtensor(tensor: Tensor) -> bool:
    """Without importing torch.distributed.tensor: where nobody has, there are no DTensors."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def whole_shape(param: Tensor) -> tuple[int, ...] | None:
    """Of all processes together. None where it is not known: FullyShardedDataParallel puts flat parts in the places of
    parameters, other ones on each rank."""
    return None if getattr(param, "_fsdp_flattened", False) else tuple(param.shape)


def check_sharding(place: str, param: Tensor, state: dict[str, Any]) -> None:
    """ValueError where a gradient or state is a DTensor and the parameter is not, or the other way round; or where they
    lie on another mesh than the parameter.

    Args:
        place: of the parameter, for the message.
    """
    tensors = {f"state {key!r}": value for key, value in state.items() if key != "step" and isinstance(value, Tensor)}
    if param.grad is not None:
        tensors = {"gradient": param.grad, **tensors}
    is_sharded = _is_dtensor(param)
    for name, tensor in tensors.items():
        if _is_dtensor(tensor) != is_sharded:
            raise ValueError(
                f"{place}: its {name} is {'no' if is_sharded else 'a'} DTensor and the parameter is "
                f"{'one' if is_sharded else 'not'}. {_remedy(name, is_sharded)}"
            )
        if is_sharded and tensor.device_mesh != param.device_mesh:  # type: ignore[attr-defined]
            raise ValueError(
                f"{place}: its {name} lies on {tensor.device_mesh}, and "  # type: ignore[attr-defined]
                f"the parameter on {param.device_mesh}. Put both on one mesh"  # type: ignore[attr-defined]
            )


def shard_full_states(state_dict: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """A state dict in which the states of DTensors are laid out as these, where they are whole in `state_dict`.

    Each process takes its part of what it has; nothing is sent.
    """
    params = [param for group in groups for param in group["params"]]
    identifiers = [identifier for group in state_dict["param_groups"] for identifier in group["params"]]
    states = dict(state_dict["state"])
    for identifier, param in zip(identifiers, params, strict=False):  # torch compares the numbers
        if _is_dtensor(param) and states.get(identifier):
            states[identifier] = {key: _laid_out(value, param) for key, value in states[identifier].items()}
    return state_dict | {"state": states}


def _laid_out(state: Any, param: Any) -> Any:
    if not isinstance(state, Tensor) or _is_dtensor(state) or state.dim() == 0 or state.shape != param.shape:
        return state
    distribute_tensor = sys.modules["torch.distributed.tensor"].distribute_tensor
    return distribute_tensor(state, param.device_mesh, param.placements, src_data_rank=None)


def _remedy(name: str, is_sharded: bool) -> str:
    if name == "gradient":
        make = "torch.distributed.tensor.distribute_tensor" if is_sharded else "its full_tensor()"
        return f"Make the gradient like the parameter, by {make}"
    if is_sharded:
        return "Load the state dict with torch.distributed.checkpoint.state_dict.set_optimizer_state_dict"
    return (
        "Load a full state dict, which torch.distributed.checkpoint.state_dict gives with "
        "StateDictOptions(full_state_dict=True)"
    )
