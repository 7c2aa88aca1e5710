"""LeRaC on a part of a model: the rates are those of the whole."""

import warnings

import pytest
import torch
from torch import nn

from lerac_fast import LeRaC, layer_groups, layer_order
from lerac_fast.lerac.schedule import CURVES, depth_ranks
from lerac_fast.optim import SGD
from tests.lerac.rates import rates, run

K = 14
STAGES = [["0", "1"], ["2", "3", "4"], ["5"]]


def model() -> nn.Sequential:
    """Of six layers; the norm before the third begins a stage, and is of a layer in the one before."""
    return nn.Sequential(
        *(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2)) if j == 2 else nn.Linear(2, 2) for j in range(6))
    )


def rates_by_parameter(groups, depths, curve="exponential", max_lr=None):
    """Over the steps."""
    optimizer = SGD(groups, lr=0.1)
    curriculum = LeRaC(optimizer, K, min_lr=1e-6, max_lr=max_lr, depths=depths, curve=curve)
    table = run(optimizer, curriculum, K + 2)
    return {parameter: [row[j] for row in table] for j, group in enumerate(groups) for parameter in group["params"]}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("max_lr", [None, 0.01])
def test_the_rates_of_stages_and_of_single_parameters_are_those_of_the_whole_model(curve, max_lr):
    whole = model()
    order = layer_order(whole, example_inputs=torch.zeros(1, 2))
    groups = layer_groups(whole, order=order)
    expected = rates_by_parameter(groups, None, curve, max_lr)
    assert expected == rates_by_parameter(groups, order.values(), curve, max_lr)
    assert len({tuple(row) for row in expected.values()}) == 6

    stages = {}
    for names in STAGES:
        stage = nn.ModuleDict({name: whole.get_submodule(name) for name in names})
        part = {name: depth for name, depth in order.items() if name.partition(".")[0] in names}
        stages |= rates_by_parameter(layer_groups(stage, order=part), iter(order.values()), curve, max_lr)
    assert stages == expected

    single = {}
    for group in groups:
        single |= rates_by_parameter([group], order.values(), curve, max_lr)
    assert single == expected


def test_frozen_depths_count_on_the_whole_model_and_on_its_parts():
    whole = model()
    order = layer_order(whole)
    whole[1].requires_grad_(False)
    groups = layer_groups(whole, order=order)
    found = rates_by_parameter(groups, order.values())
    weight = whole[2][1].weight
    assert found[weight][0] == pytest.approx(0.1 * 1e-5 ** (2 / 5))
    alone = next(group for group in groups if weight in {*group["params"]})
    assert found[weight] == rates_by_parameter([alone], order.values())[weight]


def test_a_part_whose_rates_are_not_lowered_is_no_reason_to_warn():
    group = layer_groups(model())[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LeRaC(SGD([group], lr=0.1), K, min_lr=1e-6, depths=range(1, 7))
    with pytest.warns(UserWarning, match=r"1 param group\(s\) at 1 distinct depth"):
        LeRaC(SGD([layer_groups(model())[0]], lr=0.1), K, min_lr=1e-6, depths=[1])


def test_the_state_of_a_part_goes_on_in_a_scheduler_without_depths():
    def part():
        return SGD(layer_groups(model())[2:4], lr=0.1)

    optimizer, other = part(), part()
    curriculum = LeRaC(optimizer, K, min_lr=1e-6, depths=range(1, 7), curve="decades")
    again = LeRaC(other, K, min_lr=1e-6, curve="decades")
    run(optimizer, curriculum, 3)
    again.load_state_dict(curriculum.state_dict())
    assert run(optimizer, curriculum, K) == run(other, again, K)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 1e-6, "depths": (1, 6)}, r"depths, of which there are 2, lack those of param groups: \[3, 4\]"),
        ({"min_lr": 1e-6, "depths": []}, r"depths, of which there are 0, lack those"),
        ({"initial_lrs": [0.1, 0.01], "depths": range(7)}, "give initial_lrs, or min_lr=None"),
    ],
)
def test_depths_that_do_not_fit_are_refused(arguments, message):
    optimizer = SGD(layer_groups(model())[2:4], lr=0.1)
    with pytest.raises(ValueError, match=message):
        LeRaC(optimizer, K, **arguments)
    assert rates(optimizer) == [0.1, 0.1]
    assert "initial_lr" not in optimizer.param_groups[0]


def test_groups_without_a_depth_have_no_place_among_depths():
    with pytest.raises(ValueError, match=r"param groups \[0\] have no 'depth', so that"):
        depth_ranks([{"params": []}], [1, 2])
