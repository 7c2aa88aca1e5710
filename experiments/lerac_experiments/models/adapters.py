"""What lets models that were written for other programs be trained here: they take the inputs of a batch, and return
logits or values."""

import inspect
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from lerac_experiments.data.source import Parts
from lerac_experiments.errors import ExperimentError


class OfNamedInputs(nn.Module):
    """A model of transformers, which takes the tensors of an encoded text by their names.

    Shapes: as of the model; `token_type_ids` are left out where it does not know them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._known = tuple(inspect.signature(model.forward).parameters)

    def forward(self, inputs: dict[str, Tensor]) -> Any:
        return self.model(**{name: tensor for name, tensor in inputs.items() if name in self._known})


_RETURNED: WeakSet[nn.Module] = WeakSet()
"""What would otherwise be trained further by the next trial."""


def adapted(model: Any, parts: Parts, spec: str) -> nn.Module:
    """The model, ready for the data: of what it returns only the logits are kept (transformers' outputs, the first of a
    tuple), and of a regression [B, 1] becomes [B].

    Raises:
        ExperimentError: it is no model, or one that there was before.
    """
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__} itself, and not an object of it" if isinstance(model, type) else repr(model)
        raise ExperimentError(f"{spec} must return an nn.Module, and returned {what:.200}")
    if not any(True for _ in model.parameters()):
        raise ExperimentError(f"{spec}: the {type(model).__name__} has no parameters to be trained")
    if model in _RETURNED:
        raise ExperimentError(f"{spec} returned the same {type(model).__name__} before: make a new one in each call")
    _RETURNED.add(model)
    if isinstance(parts.train.__getitems__([0]).inputs, dict) and is_of_transformers(model):
        model = OfNamedInputs(model)
    if parts.task != "detection":
        model.register_forward_hook(_value_alone if parts.task == "regression" else _logits_alone)
    return model


def is_of_transformers(model: nn.Module) -> bool:
    """Whether it is one of transformers', which is not imported for it."""
    return any(f"{kind.__module__}.{kind.__name__}" == _PRETRAINED_MODEL for kind in type(model).__mro__)


_PRETRAINED_MODEL = "transformers.modeling_utils.PreTrainedModel"


def fit_channels(model: nn.Module, channels: int) -> None:
    """Has the first convolution take images of so many channels. Weights that it has are averaged over its own
    channels, and scaled so that the sum over channels is what it was."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                if child.in_channels != channels:
                    setattr(parent, name, _with_channels(child, channels))
                return


def _with_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    made = nn.Conv2d(
        channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        convolution.dilation,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
        padding_mode=convolution.padding_mode,
    )
    with torch.no_grad():
        summed = convolution.weight.sum(dim=1, keepdim=True)
        made.weight.copy_((summed / channels).expand_as(made.weight))
        if convolution.bias is not None and made.bias is not None:
            made.bias.copy_(convolution.bias)
    return made


def fit_classes(model: nn.Module, classes: int) -> None:
    """Puts a new last layer, with random weights, in the place of the last one."""
    layers = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear | nn.Conv2d)
    ]
    parent, name, last = layers[-1]
    if isinstance(last, nn.Linear):
        setattr(parent, name, nn.Linear(last.in_features, classes, bias=last.bias is not None))
    else:
        setattr(parent, name, nn.Conv2d(last.in_channels, classes, last.kernel_size))  # type: ignore[arg-type]


def _logits_alone(_: nn.Module, __: Any, outputs: Any) -> Any:
    logits = getattr(outputs, "logits", outputs)
    return logits[0] if isinstance(logits, tuple | list) and logits else logits


def _value_alone(module: nn.Module, args: Any, outputs: Any) -> Any:
    values = _logits_alone(module, args, outputs)
    return values.squeeze(1) if isinstance(values, Tensor) and values.shape[1:] == (1,) else values
