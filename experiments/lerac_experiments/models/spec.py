"""What a model of the experiments is: how it is built, which layers it has, and how the paper trains it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lerac_experiments.data.examples import Inputs
from lerac_experiments.data.source import DataSet, Kind, Parts, TextEncoding
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.usual import USUAL_SETTINGS
from lerac_experiments.settings import Settings
from lerac_fast import layer_groups
from lerac_fast.cbs.sites import Where
from lerac_fast.layers.groups import By


@dataclass(frozen=True)
class ModelSpec:
    """A model that can be asked for.

    The module takes one argument, the inputs of a batch, and returns logits `[B, classes]`, or values `[B]` for
    regression (`Parts.classes` is 1). Detectors take images and, in training mode, targets, as torchvision's.

    Attributes:
        build: makes it for a data set, with random weights from torch's global generator; or, if it is `pretrained`,
            with those in a folder. `make` calls it.
        settings: of the paper, or of a small variant for a CPU. `settings_for` gives those for a data set.
        smoothing: where CBS acts; None: at convolutions; empty: nowhere.
        by: what makes a layer, as for `layer_groups`.
    """

    name: str
    """As on the command line."""
    title: str
    """As in tables."""
    kinds: tuple[Kind, ...]
    """Of data that it takes."""
    build: Callable[[Parts, Path | None], nn.Module]
    settings: Settings = USUAL_SETTINGS
    smoothing: Where | None = None
    by: By = "module"
    encoding: TextEncoding | None = None
    """Of models for text."""
    pretrained: Callable[[], Path] | None = None
    """Finds the folder with the weights, for models that start from some; raises Unavailable."""
    starts_trained: bool = False
    """Whether `build` itself loads pre-trained weights, as libraries do."""
    temperatures: bool = True
    """Whether its classes exclude each other (softmax), so that their logits can have temperatures."""
    usual: Callable[[DataSet, Mapping[str, Any]], Settings] | None = None
    """Of models that no paper trains: how they are trained on a data set, with what is given in place of the usual."""
    find_smoothing: Callable[[nn.Module], Where | None] | None = None
    """Of those, too: where CBS acts on the model that was built."""
    fingerprint: Callable[[], str] | None = None
    """Of models of one's own: hexadecimal digits that their source decides. Raises ExperimentError if there is none."""

    def settings_for(self, data: DataSet, given: Mapping[str, Any]) -> Settings:
        """How it is trained on a data set, with what is given in the place of the usual."""
        return replace(self.settings, **given) if self.usual is None else self.usual(data, given)

    @property
    def has_trained_weights(self) -> bool:
        """Whether it starts from pre-trained weights, wherever these come from."""
        return self.starts_trained or self.pretrained is not None

    def sites(self, model: nn.Module) -> Where | None:
        """Where CBS acts on it, once it is built."""
        return self.smoothing if self.find_smoothing is None else self.find_smoothing(model)

    def make(self, parts: Parts, pretrained: Path | None) -> nn.Module:
        """Builds it for a data set, in the memory format that is fastest for its inputs. The numbers are the same."""
        model = self.build(parts, pretrained)
        inputs = parts.train.__getitems__([0]).inputs
        if isinstance(inputs, Tensor) and inputs.ndim == 4:  # convolutions on a CPU are several times faster
            model = model.to(memory_format=torch.channels_last)
        return model

    def groups(self, model: nn.Module, inputs: Inputs) -> list[dict[str, Any]]:
        """The layers, in the order of their depth. One text, or one of the images of various sizes, is enough to follow
        the data, where it is not followed by fake tensors."""
        example: Any = inputs
        if isinstance(inputs, dict):
            example = {name: tensor[:1] for name, tensor in inputs.items()}
        elif isinstance(inputs, list):
            example = (inputs[:1],)  # a list alone would be several arguments
        return layer_groups(model, example_inputs=example, by=self.by)

    def check_takes(self, data: DataSet) -> None:
        """Raises ExperimentError if it does not."""
        if data.kind not in self.kinds:
            raise ExperimentError(f"{self.name} takes {' or '.join(self.kinds)} data, and {data.name} is {data.kind}")
