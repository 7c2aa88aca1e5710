"""What a step asks of DTensors before torch's own step, which would raise half-way, gets to see them."""

import sys
from typing import Any

from torch import Tensor


def _is_dtensor(tensor: Tensor) -> bool:
    """Without importing torch.distributed.tensor: where nobody has, there are no DTensors."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


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
