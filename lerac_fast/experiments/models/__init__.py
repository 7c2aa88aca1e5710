"""The networks of the experiments."""

from lerac_fast.experiments.models.resnet import ResNet, resnet_for

__all__ = ["ResNet", "resnet_for"]
