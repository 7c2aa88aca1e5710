"""States of sharded parameters go from any groups to any others and back, and are what they were."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from lerac_fast.optim import regroup
from tests.optim.cases import TYPICAL, Case, assert_equal
from tests.optim.distributed.tensors import full
from tests.optim.distributed.test_resharding import train
from tests.optim.distributed.test_training import model, shard
from tests.optim.layouts import Layout, layouts
from tests.processes import Processes

NAMES = [name for name, _ in model().named_parameters()]
FORMS = st.builds(StateDictOptions, full_state_dict=st.booleans(), flatten_optimizer_state_dict=st.booleans())
STATELESS = NAMES[2]  # frozen


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, DTensor):
        assert found._spec == expected._spec
        assert_equal(full(found), full(expected))
    elif isinstance(expected, torch.Tensor):
        assert_equal(found, expected)
    else:
        assert found == expected


@given(st.sampled_from(TYPICAL), layouts(NAMES), layouts(NAMES), FORMS, FORMS)
@settings(max_examples=15, deadline=None, derandomize=True, database=None)  # the same examples on both ranks
def _there_and_back(case: Case, first: Layout, second: Layout, there: StateDictOptions, back: StateDictOptions) -> None:
    net = shard(model(), init_device_mesh("cpu", (2,)))
    net.get_parameter(STATELESS).requires_grad_(False)

    def optimizer(layout: Layout) -> torch.optim.Optimizer:
        groups = [[(name, net.get_parameter(name)) for name in names] for names in layout]
        return case.fast([{"params": params, "lr": 0.01 * (1 + i)} for i, params in enumerate(groups)])

    writer, reader, again = optimizer(first), optimizer(second), optimizer(first)
    train(net, writer, range(2))
    reader.load_state_dict(regroup(get_optimizer_state_dict(net, writer, options=there), reader))
    assert [len(group["params"]) for group in reader.param_groups] == [*map(len, second)]
    again.load_state_dict(regroup(get_optimizer_state_dict(net, reader, options=back), again))
    assert_same(again.state_dict(), writer.state_dict())


def _examples(_: int) -> None:
    _there_and_back()


def test_any_layout_to_any_other_and_back(two: Processes) -> None:
    two.run(_examples)
