"""What tells one version of a function of one's own from another: the state of what it refers to, too."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial, wraps
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lerac_experiments.errors import ExperimentError
from lerac_experiments.own_code.source import digest


@dataclass
class Config:
    width: int


class Slotted:
    __slots__ = ("width",)

    def __init__(self, width: int) -> None:
        self.width = width


class Maker:
    def __init__(self, width: int) -> None:
        self.config = {"width": Config(width)}

    def __call__(self, classes: int) -> nn.Module:
        return nn.Linear(self.config["width"].width, classes)

    def method(self, classes: int) -> nn.Module:
        return self(classes)


def encloses(value: Any) -> Any:
    return lambda classes: nn.Linear(value.width, classes)


def decorated(width: int) -> Any:
    def decorate(function: Any) -> Any:
        return wraps(function)(lambda classes: nn.Linear(width, classes))

    return decorate(len)


def class_with(width: int) -> Any:
    class Net(nn.Linear):
        size = width

    return Net


def typed_class(body: str) -> Any:
    """As one that was typed in, of which there is no source."""
    names: dict[str, Any] = {"cached_property": cached_property, "__name__": "__main__"}
    exec(f"class Net:\n    def __init__(self, classes): ...\n    {body}", names)
    return names["Net"]


@pytest.mark.parametrize(
    "made",
    [
        Maker,
        lambda width: Maker(width).method,
        lambda width: partial(Maker(width), classes=2),
        lambda width: encloses(SimpleNamespace(width=width)),
        lambda width: encloses(Config(width)),
        lambda width: encloses(Slotted(width)),
        lambda width: encloses(Path(str(width))),
        lambda width: encloses({Config(width).width, "a"}),
        lambda width: encloses([Config(1), one := Config(2), one if width > 32 else Config(2)]),
        lambda width: encloses(nn.Linear(width, 1)),
        lambda width: encloses(np.float32(width)),
        lambda width: encloses(decorated(width)),
        lambda width: lru_cache(encloses(Config(width))),
        class_with,
        lambda width: typed_class(f"size = {width}"),
        lambda width: typed_class(f"@staticmethod\n    def size(): return {width}"),
        lambda width: typed_class(f"@classmethod\n    def size(cls): return {width}"),
        lambda width: typed_class(f"@property\n    def size(self): return {width}"),
        lambda width: typed_class(f"@cached_property\n    def size(self): return {width}"),
        lambda width: typed_class(f"class Inner:\n        size = {width}"),
    ],
)
def test_the_state_of_what_a_given_function_refers_to_is_part_of_its_source(made: Callable[[int], Any]) -> None:
    def of(width: int) -> str:
        torch.manual_seed(0)
        return digest(made(width))

    before = of(32)
    assert of(32) == before != of(64)


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"refers to <unlocked .*: make it within the function"):
        digest(encloses(SimpleNamespace(width=Lock())))


def test_lambdas_of_one_line_differ() -> None:
    two, three = (lambda: nn.Linear(4, 2)), (lambda: nn.Linear(4, 3))
    assert digest(two) != digest(three)
