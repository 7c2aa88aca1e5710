"""Signal-to-noise ratio and entropy per layer: against references, what becomes of the model, and LeRaC's rates."""

import copy
import math
import random
import warnings
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lerac_fast import layer_groups, signal_to_noise
from lerac_fast.lerac.snr import (
    LayerSignal,
    decay_rate,
    similarity,
    unit_entropy,
)
from tests.layers.models import AuxiliaryHead, Functional, KeepsState, RegisteredInReverse, TiedEmbedding

reproducible = settings(derandomize=True)


def perceptron(dtype=torch.float32, depth=4, width=24):
    layers = [m for i in range(depth) for m in (nn.Linear(8 if i == 0 else width, width), nn.ReLU())]
    return nn.Sequential(*layers).to(dtype)


def hsic(k, m):
    """The unbiased estimator of Song et al., "Feature selection via dependence maximization" (2012), Eq. 5."""
    n = len(k)
    k, m, ones = k - torch.diag(k.diag()), m - torch.diag(m.diag()), torch.ones(n, dtype=k.dtype)
    total = (k @ m).trace() + (k.sum() * m.sum()) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ m @ ones)
    return total / (n * (n - 3))


def cka(x, y):
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()


# The measures


def test_similarities_give_the_debiased_cka():
    x, y = torch.randn(9, 5, dtype=torch.float64), torch.randn(9, 7, dtype=torch.float64) + 3.0
    assert float((similarity(x) * similarity(y)).sum()) == pytest.approx(float(cka(x, y)), rel=1e-12)
    assert float((similarity(x) * similarity(x)).sum()) == pytest.approx(1.0)


def test_equal_rows_have_no_similarities():
    row = torch.rand(1, 7)
    assert torch.equal(similarity(row.expand(11, -1)), torch.zeros(11, 11, dtype=torch.float64))


@pytest.mark.parametrize("draws", [2, 3, 5])
def test_snr_matches_the_reference(draws):
    model = perceptron(torch.float64)
    inputs = torch.randn(20, 8, dtype=torch.float64)
    outputs = {str(i): [] for i in (0, 2, 4, 6)}
    for name in outputs:
        model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: outputs[name].append(y))
    signals = signal_to_noise(model, inputs, layer_groups(model), draws=draws)
    assert [s.name for s in signals] == list(outputs)
    assert [s.depth for s in signals] == [1, 2, 3, 4]
    for signal in signals:
        found = outputs[signal.name]
        assert len(found) == draws
        c = sum(float(cka(x, y)) for x, y in combinations(found, 2)) / math.comb(draws, 2)
        assert signal.snr == pytest.approx(c / (1 - c), rel=1e-9)
        assert signal.entropy == pytest.approx(sum(unit_entropy(y) for y in found) / draws)


def test_the_given_weights_are_the_first_draw_and_the_others_their_shuffles():
    model = nn.Sequential(nn.Embedding(5, 3, padding_idx=0), nn.Linear(3, 4)).double()
    seen = []
    model[1].register_forward_pre_hook(lambda m, _: seen.append(m.weight.detach().clone()))
    padding = []
    model[0].register_forward_hook(lambda m, *_: padding.append(m.weight[0].detach().clone()))
    signal_to_noise(model, torch.randint(0, 5, (9, 2)), layer_groups(model), draws=3)
    assert torch.equal(seen[0], model[1].weight)
    for draw in seen[1:]:
        assert not torch.equal(draw, seen[0])
        assert torch.equal(draw.flatten().sort().values, seen[0].flatten().sort().values)
    assert not any(row.any() for row in padding)


def test_what_does_not_depend_on_random_weights_is_all_signal():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    groups = layer_groups(model)
    model[0].requires_grad_(False)
    first, second = signal_to_noise(model, torch.randn(32, 4), groups)
    assert first.snr > 1e9 > second.snr
    nn.init.ones_(model[0].weight)  # shuffling changes nothing, and a single feature is left to tell examples apart
    model[0].requires_grad_(True)
    assert all(signal.snr > 1e9 for signal in signal_to_noise(model, torch.randn(32, 4)))


def test_a_dead_layer_has_no_signal():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    assert signal_to_noise(model, torch.randn(16, 4))[1] == LayerSignal("1", 2, 0.0, 0.0)


def test_the_scale_of_a_layer_does_not_matter():
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 16, bias=False)).double()
    inputs = torch.randn(24, 8, dtype=torch.float64)
    before = signal_to_noise(model, inputs)
    with torch.no_grad():
        model[0].weight *= 1024.0
        model[2].weight *= 0.125
    for one, other in zip(before, signal_to_noise(model, inputs), strict=True):
        assert (one.snr, one.entropy) == pytest.approx((other.snr, other.entropy), rel=1e-9)


def test_snr_falls_with_depth_and_the_same_seed_gives_the_same():
    model, inputs = perceptron(depth=6, width=64), torch.randn(64, 8)
    signals = signal_to_noise(model, inputs)
    assert all(deeper.snr < shallower.snr for shallower, deeper in pairwise(signals))
    assert signals == signal_to_noise(model, inputs)
    assert signals != signal_to_noise(model, inputs, seed=1)


def test_entropy():
    values = torch.arange(64.0)
    assert unit_entropy(values[:, None]) == pytest.approx(5.0)
    assert unit_entropy(values[:, None].expand(-1, 3) * -7.0 + 1e3) == pytest.approx(5.0)
    # The bins are the layer's: a unit that hardly varies beside the others tells little.
    assert unit_entropy(torch.stack([values, torch.full((64,), 3.0)], 1)) == pytest.approx(2.5)
    assert unit_entropy(torch.ones(8, 3)) == 0.0


def test_entropy_of_many_units_is_that_of_some():
    assert unit_entropy(torch.rand(64, 9000)) == pytest.approx(unit_entropy(torch.rand(64, 4000)), rel=0.02)


# What it does to a model


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = KeepsState(reads_values=True).train(training)
    model.norm.eval()
    model.average.fill_(0.5)
    inputs = torch.randn(16, 4)
    before = (copy.deepcopy(model.state_dict()), inputs.clone(), torch.get_rng_state(), random.getstate())
    parameters, versions = list(model.parameters()), [p._version for p in model.parameters()]
    buffers = list(model.buffers())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signal_to_noise(model, inputs)
    assert torch.equal(inputs, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert random.getstate() == before[3]
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    assert all(p is q and p._version == v for p, q, v in zip(parameters, model.parameters(), versions, strict=True))
    assert all(p is q for p, q in zip(buffers, model.buffers(), strict=True))
    assert (model.calls, model.cache, model.history) == (0, {}, [])
    assert (model.training, model.norm.training, model.linear.training) == (training, False, training)
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x):
        self.first(x)
        raise RuntimeError("no more")


def test_an_error_in_the_forward_pass_leaves_no_hooks():
    model = Fails()
    weight = model.first.weight
    with pytest.raises(RuntimeError, match="no more"):
        signal_to_noise(model, torch.randn(8, 4), layer_groups(model))
    assert model.first.weight is weight
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_batch_norms_keep_their_mode_and_dropout_is_off():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))
    modes = []
    model.register_forward_hook(lambda m, *_: modes.append([layer.training for layer in m]))
    signal_to_noise(model, torch.randn(8, 4), draws=2)
    model[1].eval()
    signal_to_noise(model, torch.randn(8, 4), draws=2)
    assert [False, True, False, False] in modes
    assert modes[-1] == [False] * 4
    assert int(model[1].num_batches_tracked) == 0


# Models of all kinds


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.twice(self.twice(x).relu()))


def test_of_a_shared_module_the_first_call_counts():
    model, inputs = Shared().double(), torch.randn(16, 6, dtype=torch.float64)
    once = nn.Sequential(model.twice, model.head)
    assert signal_to_noise(model, inputs)[0].snr == pytest.approx(signal_to_noise(once, inputs)[0].snr, rel=1e-9)


def test_recurrent_and_tied():
    ids = torch.randint(0, 11, (16, 5))
    assert [s.name for s in signal_to_noise(RegisteredInReverse(), ids)] == ["embedding", "lstm", "head"]
    assert [s.name for s in signal_to_noise(TiedEmbedding(), ids)] == ["embedding", "hidden", "decoder"]


def test_the_batch_axis_of_a_recurrent_layer_may_be_the_second():
    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4)

        def forward(self, x):
            return self.lstm(x.transpose(0, 1))[0][-1]

    model, inputs = TimeFirst().double(), torch.randn(16, 16, 3, dtype=torch.float64)
    (found,) = signal_to_noise(model, inputs)
    same = nn.LSTM(3, 4, batch_first=True).double()
    same.load_state_dict(model.lstm.state_dict())
    (expected,) = signal_to_noise(nn.Sequential(same), inputs)
    assert found.snr == pytest.approx(expected.snr, rel=1e-9)


def test_packed_sequences_are_padded():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.lstm(packed)[1][0]

    model, inputs = Packed().double(), torch.randn(16, 5, 3, dtype=torch.float64)
    (found,) = signal_to_noise(model, (inputs, torch.full((16,), 5)))
    (expected,) = signal_to_noise(nn.Sequential(model.lstm), inputs)
    assert found.snr == pytest.approx(expected.snr, rel=1e-9)


def test_windows_of_an_example_are_its_units():
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(3, 4), nn.Unflatten(0, (-1, 5))).double()
    inputs = torch.randn(8, 5, 3, dtype=torch.float64)
    (found,) = signal_to_noise(model, inputs)
    (expected,) = signal_to_noise(nn.Sequential(model[1]), inputs)
    assert found.snr == pytest.approx(expected.snr, rel=1e-9)


def test_layers_that_do_not_run_are_named():
    model = AuxiliaryHead()
    with pytest.warns(UserWarning, match=r"not measured.*: auxiliary"):
        signals = signal_to_noise(model, torch.randn(8, 3))
    assert [s.name for s in signals] == ["body", "head"]


def test_groups_of_other_names_have_the_output_of_their_last_module():
    model, inputs = perceptron(), torch.randn(16, 8)
    by_module = signal_to_noise(model, inputs)
    groups = layer_groups(model, example_inputs=inputs, by=lambda name: "start" if name[0] in "02" else "end")
    start, end = signal_to_noise(model, inputs, groups)
    assert (start.name, start.snr) == ("start", by_module[1].snr)
    assert (end.name, end.snr) == ("end", by_module[3].snr)


def test_groups_made_by_hand_count_in_their_order():
    model = perceptron(depth=2)
    groups = [{"params": model[2].parameters()}, {"params": model[0].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    signals = signal_to_noise(model, torch.randn(16, 8), optimizer.param_groups)
    assert [(s.name, s.depth) for s in signals] == [("group 0", 1), ("group 1", 2)]


def test_compiled_models_and_inputs_by_name():
    model = RegisteredInReverse()
    ids = torch.randint(0, 11, (16, 5))
    expected = signal_to_noise(model, ids)
    assert signal_to_noise(torch.compile(model), {"ids": ids}) == expected
    model.head = torch.compile(model.head)
    assert signal_to_noise(model, ids) == expected


# Refusals


@pytest.mark.parametrize(
    ("examples", "options", "message"),
    [(3, {}, "has 3 examples"), (8, {"draws": 1}, "draws=1 must be at least 2")],
)
def test_bad_arguments_are_named(examples, options, message):
    with pytest.raises(ValueError, match=message):
        signal_to_noise(perceptron(), torch.randn(examples, 8), **options)


def test_parameters_of_another_model_are_named():
    groups = layer_groups(perceptron())
    with pytest.raises(ValueError, match=r"param group '0' has parameters that are not the model's"):
        signal_to_noise(perceptron(), torch.randn(8, 8), groups)


def test_infinite_outputs_are_named():
    model = perceptron()
    with torch.no_grad():
        model[2].weight.fill_(math.inf)
    with pytest.raises(ValueError, match=r"the output of '2' is not finite"):
        signal_to_noise(model, torch.randn(8, 8))


def test_a_model_without_modules_cannot_be_measured():
    with pytest.raises(ValueError, match="none of the layers can be measured: b1, b2, scale"):
        signal_to_noise(Functional(), torch.randn(8, 3))


# The decay


@reproducible
@given(st.floats(-0.5, 0.5), st.floats(0.5, 5.0), st.integers(2, 9))  # within the range that counts
def test_decay_of_an_exact_exponential(rate, start, layers):
    decay = decay_rate([LayerSignal("", d, start * math.exp(-rate * d), 0.0) for d in range(1, layers + 1)])
    assert decay.rate == pytest.approx(rate, abs=1e-9)
    assert decay.start == pytest.approx(start, rel=1e-9)
    assert decay.r_squared == pytest.approx(1.0, abs=1e-6) or abs(rate) < 1e-6


def test_decay_of_scattered_layers():
    signals = [LayerSignal("", depth, math.exp(y), 0.0) for depth, y in ((1, 2.0), (2, 0.0), (3, 1.0))]
    rate, start, r_squared = decay_rate(signals)
    assert (rate, math.log(start), r_squared) == pytest.approx((0.5, 2.0, 0.25))
    with pytest.raises(ValueError, match="1 layers of 1 depths"):
        decay_rate(signals[:1])
