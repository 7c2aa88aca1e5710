"""A small network to smooth, and what the tests of CBS ask of it."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

KINDS = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}


def network(axes=2, seed=0):
    """Two smoothed convolutions, one that is 1 wide, norms and activations."""
    torch.manual_seed(seed)
    conv, norm = KINDS[axes]
    return nn.Sequential(
        conv(3, 5, 3, padding=1),
        norm(5),
        nn.ReLU(inplace=True),
        conv(5, 5, 1),
        nn.ReLU(inplace=True),
        conv(5, 4, 3, stride=2, bias=False),
        norm(4),
    )


def images(axes=2, size=8, batch=2):
    return torch.randn(batch, 3, *[size] * axes, generator=torch.Generator().manual_seed(7))


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def step(cbs, times):
    for _ in range(times):
        cbs.step()


class Calls(TorchDispatchMode):
    """Counts the smoothing ops that run, in place (`gaussian_smooth_`) and out of place."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name.startswith("lerac_fast::"):
            self.names.append(name.removeprefix("lerac_fast::"))
        return func(*args, **(kwargs or {}))


def smoothing_calls(run):
    with Calls() as calls:
        run()
    return calls.names
