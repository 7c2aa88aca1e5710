"""First uses of parameters against depths worked out by hand, and the model left as it was found."""

import copy
import random
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lerac_fast.layers._depth import first_uses
from tests.layers import models


def depths(model: nn.Module, *args, **kwargs) -> dict[str, int]:
    return {name: use.depth for name, use in first_uses(model, args, kwargs).items()}


IMAGES = torch.zeros(2, 3, 64, 64)


def test_resnet18_counts_convolutions_and_norms_and_puts_shortcuts_beside_their_branch():
    measured = depths(torchvision.models.resnet18(), IMAGES)
    assert len(measured) == 62
    assert measured["conv1.weight"] == 1
    assert measured["bn1.weight"] == measured["bn1.bias"] == 2
    for block in range(8):
        name = f"layer{1 + block // 2}.{block % 2}"
        assert [measured[f"{name}.{layer}.weight"] for layer in ("conv1", "bn1", "conv2", "bn2")] == [
            3 + 4 * block + i for i in range(4)
        ]
        if f"{name}.downsample.0.weight" in measured:
            assert measured[f"{name}.downsample.0.weight"] == measured[f"{name}.conv1.weight"]
    assert measured["fc.weight"] == measured["fc.bias"] == 35


def test_densenet121_is_a_chain_of_242_operations():
    measured = depths(torchvision.models.densenet121(), IMAGES)
    weights = [depth for name, depth in measured.items() if name.endswith("weight")]
    assert sorted(weights) == list(range(1, 243))
    assert measured["classifier.weight"] == 242


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_transformer_encoder_is_measured_through_its_fused_fast_path(norm_first, training):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)
    measured = depths(model, torch.zeros(2, 5, 8))
    parts = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    parts = (
        ["norm1.weight", *parts[:2], "norm2.weight", *parts[2:]]
        if norm_first
        else [*parts[:2], "norm1.weight", *parts[2:], "norm2.weight"]
    )
    names = [f"layers.{i}.{part}" for i in range(2) for part in parts]
    assert [measured[name] for name in names] == list(range(1, 13))
    assert torch.backends.mha.get_fastpath_enabled()


def test_lstm_counts_once_whatever_the_order_of_registration():
    measured = depths(models.RegisteredInReverse(), torch.zeros(2, 7, dtype=torch.long))
    assert measured["embedding.weight"] == 1
    assert {depth for name, depth in measured.items() if name.startswith("lstm")} == {2}
    assert measured["head.weight"] == 3


def test_tied_weights_are_measured_in_each_place():
    measured = depths(models.TiedEmbedding(), torch.zeros(2, 7, dtype=torch.long))
    assert measured == {
        "embedding.weight": 1,
        "hidden.weight": 2,
        "hidden.bias": 2,
        "decoder.weight": 3,
        "decoder.bias": 3,
    }


def test_a_shared_module_has_the_depth_of_its_least_deep_use():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.shared = nn.Linear(3, 3), nn.Linear(3, 3)
            self.again = self.shared

        def forward(self, x):
            return self.again(self.first(x)) + self.shared(x)  # the deeper use is executed first

    model = Shared()
    before = dict(model._modules)
    assert depths(model, torch.zeros(2, 3)) == dict.fromkeys(
        ["first.weight", "first.bias", "shared.weight", "shared.bias"], 1
    )
    assert model._modules == before


def test_functional_use():
    assert depths(models.Functional(), torch.zeros(2, 3)) == {
        "first": 1,
        "b1": 1,
        "second": 2,
        "b2": 2,
        "scale": 3,
    }


def test_parameters_without_data_count_where_they_meet_it():
    uses = first_uses(models.ClassToken(), (torch.zeros(2, 4, 3),), {})
    assert {name: (use.depth, use.after) for name, use in uses.items()} == {
        "patch.weight": (1, None),
        "patch.bias": (1, None),
        "token": (2, "patch.weight"),
        "position": (3, "token"),
        "norm.weight": (4, "position"),
        "norm.bias": (4, "position"),
    }


@pytest.mark.parametrize("reparametrize", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_reparametrized_weights(reparametrize):
    model = nn.Sequential(reparametrize(nn.Linear(3, 4)), reparametrize(nn.Linear(4, 2)))
    measured = depths(model, torch.zeros(2, 3))
    assert len(measured) == len(list(model.parameters()))
    for name, depth in measured.items():
        assert depth == 1 + int(name[0])


def test_a_weight_recomputed_by_a_hook_is_put_back():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    raw = nn.Parameter(model[1].weight.detach().clone())
    del model[1].weight
    model[1].raw = raw
    model[1].register_forward_pre_hook(lambda module, _: setattr(module, "weight", module.raw * 2))
    measured = depths(model, torch.zeros(2, 3))
    assert measured["1.raw"] == 2
    assert not hasattr(model[1], "weight")


def test_outputs_written_through_views_are_followed():
    measured = depths(models.WritesThroughViews(), torch.zeros(2, 4))
    assert (measured["left.weight"], measured["right.weight"], measured["head.weight"]) == (1, 2, 3)


def write_double(x: Tensor, out: Tensor) -> None:
    out.copy_(2 * x)


@pytest.mark.parametrize("keyword_only", ["", "*, "])
def test_outputs_of_operations_that_return_nothing_are_followed(keyword_only):
    library = torch.library.Library("lerac_fast_tests", "FRAGMENT")
    name = f"double_into{len(keyword_only)}"
    library.define(f"{name}(Tensor x, {keyword_only}Tensor(a!) out) -> ()")
    library.impl(name, write_double, "CompositeExplicitAutograd")
    double_into = getattr(torch.ops.lerac_fast_tests, name)

    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x):
            x = self.first(x)
            out = torch.zeros(x.shape)
            double_into(x, out=out)
            return self.second(out)

    measured = depths(Writes(), torch.zeros(2, 3))
    assert (measured["first.weight"], measured["second.weight"]) == (1, 2)


def test_an_embedding_that_renormalises_its_weight_in_place():
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.1), nn.Linear(3, 2))
    before = copy.deepcopy(model.state_dict())
    assert depths(model, torch.zeros(2, dtype=torch.long)) == {"0.weight": 1, "1.weight": 2, "1.bias": 2}
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_weight_written_to_in_the_forward_pass_stays_a_weight():
    class DeepThenShallow(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.linear = nn.Embedding(5, 3, max_norm=0.1), nn.Linear(3, 5)

        def forward(self, x):
            return self.embedding(self.linear(x).argmax(-1)) + self.embedding(x.long())[:, 0]

    measured = depths(DeepThenShallow(), torch.zeros(2, 3))
    assert measured["embedding.weight"] == 1


def test_data_added_in_place_to_a_copy_of_a_parameter_turns_it_into_data():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.bias = nn.Linear(3, 3), nn.Parameter(torch.zeros(2, 3))

        def forward(self, x):
            return self.linear(self.bias.clone().add_(x).relu())

    assert depths(InPlace(), torch.zeros(2, 3)) == {"bias": 1, "linear.weight": 2, "linear.bias": 2}


def test_parameters_that_share_one_memory_are_told_apart():
    model = models.RegisteredInReverse()
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()), model.parameters())
    measured = depths(model, torch.zeros(2, 7, dtype=torch.long))
    assert (measured["embedding.weight"], measured["lstm.weight_hh_l1"], measured["head.weight"]) == (1, 2, 3)


def test_a_parameter_held_outside_of_its_module():
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.weights = (self.first.weight, self.second.weight)

        def forward(self, x):
            for weight in self.weights:
                x = nn.functional.linear(x, weight)
            return x

    assert depths(Aliased(), torch.zeros(2, 3)) == {"first.weight": 1, "second.weight": 2}


@pytest.mark.parametrize("how", ["if", "item", "nonzero"])
def test_control_flow_on_values_runs_on_real_tensors(how):
    measured = depths(models.DataDependent(how), torch.randn(5, 4))
    assert (measured["body.0.weight"], measured["body.1.weight"], measured["head.weight"]) == (1, 2, 3)


def test_real_tensors_give_the_depths_of_fake_ones():
    class Peeks(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            x = x * float(x.abs().max() + 1)
            return self.model(x.transpose(0, 1))

    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False)
    for model, x in (
        (nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2)), torch.randn(2, 5, 8)),
        (nn.LSTM(8, 4, 2, bidirectional=True), torch.randn(2, 5, 8)),
        (encoder, torch.randn(2, 5, 8)),
    ):
        fake = first_uses(model, (x.transpose(0, 1),), {})
        real = first_uses(Peeks(model), (x,), {})
        assert {f"model.{name}": use.depth for name, use in fake.items()} == {
            name: use.depth for name, use in real.items()
        }


def test_a_forward_pass_that_differentiates():
    """In a process of its own: torch refuses to differentiate in a child, once its autograd has started threads."""
    program = """
import torch
from tests.layers import models
from tests.layers.test_depth import depths

model = models.Energy()
measured = depths(model, torch.randn(2, 3))
assert (measured["first.weight"], measured["second.weight"]) == (1, 2)
assert all(parameter.grad is None for parameter in model.parameters())
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("training", [False, True])
def test_heads_that_run_in_training_alone_are_found_whatever_the_mode(training):
    model = models.AuxiliaryHead().train(training)
    assert depths(model, torch.zeros(2, 3))["auxiliary.weight"] == 2
    assert model.training is training


def test_a_training_mode_that_fails_is_said_to_and_leaves_what_evaluation_has_shown():
    class MasksInTraining(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.mask = nn.Linear(3, 4), nn.Parameter(torch.zeros(4))

        def forward(self, x):
            if self.training:
                raise ValueError("inputs of 2 are too short to be masked")
            return self.linear(x)

    with pytest.warns(UserWarning, match="training mode alone uses of MasksInTraining is not found.*too short"):
        assert depths(MasksInTraining(), torch.zeros(2, 3)) == {"linear.weight": 1, "linear.bias": 1}


def test_layers_dropped_at_random_in_training_are_all_measured():
    class LayerDrop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(20))

        def forward(self, x):
            for layer in self.layers:
                if not (self.training and random.random() < 0.5):
                    x = layer(x)
            return x

    measured = depths(LayerDrop(), torch.zeros(2, 3))
    assert [measured[f"layers.{i}.weight"] for i in range(20)] == list(range(1, 21))
