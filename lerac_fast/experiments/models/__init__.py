"""The networks of the experiments."""

from lerac_fast.experiments.models.resnet import ResNet

__all__ = ["ResNet"]
