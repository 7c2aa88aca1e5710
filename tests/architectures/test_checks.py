"""The survey sees each harm and each wrong order that it looks for."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lerac_fast import layer_groups
from tests.architectures import fingerprint, order
from tests.architectures.real_pass import real_pass, seed


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
        self.head = nn.Linear(4, 2)
        self.register_buffer("count", torch.zeros(1))
        self.seen: set[int] = set()
        self.recent: deque[int] = deque(maxlen=3)
        self.tally: Counter[str] = Counter()
        self.cache: dict[str, Any] = {"nested": [{}]}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x))


def _grow(module: nn.Module) -> None:
    with torch.no_grad():
        module.head.weight[0, 0] += 1


HARMS: dict[str, Callable[[Any], Any]] = {
    "parameter replaced": lambda net: setattr(net.head, "weight", nn.Parameter(net.head.weight.detach().clone())),
    "parameter changed": _grow,
    "buffer changed through its memory": lambda net: net.count.data.numpy().fill(1.0),
    "gradient left": lambda net: net(torch.ones(1, 4)).sum().backward(),
    "frozen": lambda net: net.head.weight.requires_grad_(False),
    "mode": lambda net: net.eval(),
    "set": lambda net: net.seen.add(1),
    "deque": lambda net: net.recent.append(1),
    "counter": lambda net: net.tally.update("a"),
    "nested cache": lambda net: net.cache["nested"][0].update(key=1),
    "new attribute": lambda net: setattr(net.layers[1], "last", 1),
    "hook": lambda net: net.head.register_forward_hook(lambda *_: None),
    "random state of torch": lambda _: torch.rand(1),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_fingerprint_shows_every_change(harm: str) -> None:
    net = Net()
    before = fingerprint.Fingerprint(net)
    assert before.differences(fingerprint.Fingerprint(net)) == []
    HARMS[harm](net)
    assert before.differences(fingerprint.Fingerprint(net)) != []


def test_fake_tensors_are_found() -> None:
    before = fingerprint.fake_tensors()
    with FakeTensorMode():
        hidden = [torch.ones(2)]
    assert isinstance(hidden[0], FakeTensor)
    assert fingerprint.fake_tensors() == before + 1


def _seeded() -> Net:
    seed(0)
    return Net()


def test_the_graph_of_a_real_pass_gives_the_order() -> None:
    net = _seeded()
    before = real_pass(net, torch.ones(2, 4)).before
    assert before["layers.0.weight"] == set()
    assert {name for name in before["head.weight"] if name.endswith("weight")} == {
        f"layers.{number}.weight" for number in range(3)
    }


def test_a_wrong_order_is_seen() -> None:
    net, inputs = _seeded(), torch.ones(2, 4)
    groups = layer_groups(net, example_inputs=inputs)
    before = real_pass(net, inputs).before
    assert [*order.check_partition(net, groups), *order.check_dependencies(net, groups, before, set())] == []
    assert list(order.check_blocks(groups, r"layers\.\d+")) == []
    assert list(order.check_order(groups, [r"layers\.\d+", "head"])) == []

    by_name = {group["name"]: group for group in groups}
    by_name["layers.1"]["depth"], by_name["head"]["depth"] = by_name["head"]["depth"], by_name["layers.1"]["depth"]
    assert list(order.check_dependencies(net, groups, before, set())) != []
    assert list(order.check_blocks(groups, r"layers\.\d+")) != []
    assert list(order.check_order(groups, [r"layers\.\d+", "head"])) != []


def test_a_parameter_that_is_missing_or_twice_is_seen() -> None:
    net = _seeded()
    groups = layer_groups(net, example_inputs=torch.ones(2, 4))
    assert list(order.check_partition(net, groups[1:])) != []
    assert list(order.check_partition(net, [*groups, groups[0]])) != []
    assert list(order.check_unused({"head.weight"}, ["head.weight"])) != []
