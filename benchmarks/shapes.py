"""The parameter shapes of the models that the step is timed on."""

from collections.abc import Callable

import torch
import torchvision
from torch import nn

Shapes = list[tuple[int, ...]]


def _of(module: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return [tuple(param.shape) for param in module().parameters()]


def _lstm() -> nn.Module:
    """The LeRaC paper's: embedding 128, two layers of 256, two dense layers; a vocabulary of 20,000 words."""
    return nn.ModuleList(
        [nn.Embedding(20_000, 128), nn.LSTM(128, 256, num_layers=2), nn.Linear(256, 128), nn.Linear(128, 2)]
    )


def _bert_large() -> Shapes:
    """BERT-large-uncased with its pooler."""
    hidden, inner = 1024, 4096
    embeddings = [(30522, hidden), (512, hidden), (2, hidden), (hidden,), (hidden,)]
    attention = [(hidden, hidden), (hidden,)] * 4 + [(hidden,), (hidden,)]
    mlp = [(inner, hidden), (inner,), (hidden, inner), (hidden,), (hidden,), (hidden,)]
    pooler = [(hidden, hidden), (hidden,)]
    return embeddings + (attention + mlp) * 24 + pooler


MODELS: dict[str, Callable[[], Shapes]] = {
    "400 x 64": lambda: [(64,)] * 400,
    "LSTM": lambda: _of(_lstm),
    "DenseNet-121": lambda: _of(lambda: torchvision.models.densenet121(num_classes=10)),
    "ResNet-18": lambda: _of(lambda: torchvision.models.resnet18(num_classes=10)),
    "Wide-ResNet-50-2": lambda: _of(lambda: torchvision.models.wide_resnet50_2(num_classes=10)),
    "BERT-large": _bert_large,
}
