"""Initial rates that follow the measured signal-to-noise ratio."""

import copy
import math
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor, nn

from lerac_fast import LeRaC, layer_groups, signal_to_noise
from lerac_fast.lerac.snr import (
    LOWEST_SNR,
    LayerSignal,
    snr_ratios,
)
from tests.lerac.test_snr import perceptron

# LeRaC


def signals_of(*snrs):
    return [LayerSignal(f"{depth}", depth, snr, 0.0) for depth, snr in snrs]


def groups_of(*depths):
    return [{"params": [], "depth": depth} for depth in depths]


def test_ratios_follow_the_running_minimum_and_parallel_layers_share():
    signals = signals_of((1, 20.0), (2, 5.0), (3, 8.0), (4, 1.0), (4, 3.0), (5, 0.0))
    groups = groups_of(1, 2, 3, 4, 4, 5)
    assert snr_ratios(signals, groups) == pytest.approx([1.0, 0.25, 0.25, 0.1, 0.1, LOWEST_SNR / 20])
    stretched = snr_ratios(signals[:-1], groups[:-1], 1e-7)
    assert stretched[-1] == pytest.approx(1e-7)
    assert stretched[1] == pytest.approx(1e-7 ** (math.log(0.25) / math.log(0.1)))


def test_a_layer_without_noise_does_not_set_the_scale():
    groups = groups_of(1, 2, 3)
    assert snr_ratios(signals_of((1, 1e14), (2, 5e3), (3, 100.0)), groups) == pytest.approx([1.0, 1.0, 0.1])


def test_layers_that_were_not_measured_have_the_rate_of_the_layer_before():
    signals = signals_of((2, 8.0), (4, 2.0))
    assert snr_ratios(signals, groups_of(1, 2, 3, 4, 5)) == [1.0, 1.0, 1.0, 0.25, 0.25]


@pytest.mark.parametrize("lowest", [0.0, -1.0, 1.5, math.nan])
def test_the_lowest_ratio_is_named(lowest):
    with pytest.raises(ValueError, match=f"lowest={lowest!r}"):
        snr_ratios(signals_of((1, 2.0), (2, 1.0)), groups_of(1, 2), lowest)


def test_no_drop_cannot_be_stretched():
    signals, groups = signals_of((1, 2.0), (2, 3.0)), groups_of(1, 2)
    assert snr_ratios(signals, groups) == snr_ratios(signals, groups, 1.0) == [1.0, 1.0]
    with pytest.raises(ValueError, match="2, does not fall with depth"):
        snr_ratios(signals, groups, 0.5)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("min_lr", [None, 1e-8])
def test_from_snr_is_a_lerac_with_these_initial_rates(min_lr):
    model, inputs = perceptron(), torch.randn(32, 8)
    groups = layer_groups(model, example_inputs=inputs)
    groups[1]["lr"] = 0.05
    measured, given_rates = (torch.optim.SGD([dict(group) for group in groups], lr=0.1) for _ in range(2))
    curriculum = LeRaC.from_snr(measured, 6, model, inputs, min_lr)
    ratios = snr_ratios(signal_to_noise(model, inputs, groups), groups, None if min_lr is None else min_lr / 0.1)
    assert rates(measured) == pytest.approx([r * base for r, base in zip(ratios, [0.1, 0.05, 0.1, 0.1], strict=True)])
    assert rates(measured)[0] == 0.1
    if min_lr is not None:
        assert rates(measured)[-1] == pytest.approx(min_lr)
    other = LeRaC(given_rates, 6, initial_lrs=rates(measured))
    for _ in range(7):
        assert rates(measured) == rates(given_rates)
        assert curriculum.state_dict() == other.state_dict()
        for optimizer, scheduler in ((measured, curriculum), (given_rates, other)):
            optimizer.step()
            scheduler.step()
    assert rates(measured) == [0.1, 0.05, 0.1, 0.1]


@pytest.mark.parametrize("order", ["bos", "bso", "obs", "bs"])
@pytest.mark.parametrize("measure_again", [False, True])
def test_from_snr_resumes_by_its_state_in_any_order(order, measure_again):
    model, inputs = perceptron(), torch.randn(32, 8)
    optimizer = torch.optim.SGD(layer_groups(model), lr=0.1)
    curriculum = LeRaC.from_snr(optimizer, 6, model, inputs, curve="cosine")
    optimizer.step()
    curriculum.step()
    states = copy.deepcopy((optimizer.state_dict(), curriculum.state_dict()))
    again = torch.optim.SGD(layer_groups(model), lr=0.1)
    for action in order:
        if action == "b" and measure_again:  # on other inputs: other ratios
            resumed = LeRaC.from_snr(again, 6, model, torch.randn(32, 8))
        elif action == "b":
            resumed = LeRaC(again, 6, min_lr=1e-3)
        else:
            (again if action == "o" else resumed).load_state_dict(states["os".index(action)])
    for _ in range(6):
        assert rates(again) == rates(optimizer)
        for one, scheduler in ((optimizer, curriculum), (again, resumed)):
            one.step()
            scheduler.step()
    assert rates(again) == [0.1] * 4


def test_from_snr_names_a_bad_min_lr():
    model = perceptron()
    optimizer = torch.optim.SGD(layer_groups(model), lr=0.1)
    with pytest.raises(ValueError, match=r"min_lr=0\.2 must be neither negative nor above"):
        LeRaC.from_snr(optimizer, 6, model, torch.randn(8, 8), 0.2)
    assert rates(optimizer) == [0.1] * 4


def transformer() -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(20, 16), encoder, nn.Flatten(), nn.Linear(96, 3)), torch.randint(0, 20, (16, 6))


def resnet() -> tuple[nn.Module, Tensor]:
    return torchvision.models.resnet18(num_classes=10), torch.randn(16, 3, 32, 32)


@pytest.mark.parametrize("make", [transformer, resnet])
def test_from_snr_for_real_networks(make):
    model, inputs = make()
    optimizer = torch.optim.SGD(layer_groups(model, example_inputs=inputs), lr=0.1)
    LeRaC.from_snr(optimizer, 10, model, inputs)
    found = rates(optimizer)
    assert found[0] == 0.1 > found[-1] > 0.0
    assert all(deeper <= shallower for shallower, deeper in pairwise(found))
