"""An order is measured once, kept as plain data, and makes the groups of a model that is wrapped or sharded."""

import json

import pytest
import torch
import torch.distributed as dist
import torchvision
from hypothesis import given, settings
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard

from lerac_fast import layer_groups, layer_order
from tests.layers import models
from tests.layers.test_depth_inputs import graphs
from tests.layers.test_layers import IMAGES, layers, summary

X = torch.zeros(2, 4)
FSDP1 = {"use_orig_params": True, "device_id": torch.device("cpu"), "sharding_strategy": ShardingStrategy.NO_SHARD}
TOKENS = torch.zeros(2, 7, dtype=torch.long)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))


def encoder() -> nn.Module:
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), 2, enable_nested_tensor=False
    )


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (perceptron, X),
        (torchvision.models.resnet18, IMAGES),
        (torchvision.models.densenet121, IMAGES),
        (encoder, torch.zeros(2, 5, 8)),
        (models.RegisteredInReverse, TOKENS),
        (models.TiedEmbedding, TOKENS),
        (models.Branches, X),
    ],
)
@pytest.mark.parametrize("by", ["module", lambda name: name.rpartition(".")[0][:8]])
def test_groups_of_an_order_are_those_of_the_example_inputs(model, x, by):
    model = model()
    order = json.loads(json.dumps(layer_order(model, example_inputs=x, by=by)))
    assert list(order.values()) == sorted(order.values())
    assert order.keys() >= dict(model.named_parameters()).keys()
    expected = layer_groups(model, example_inputs=x, by=by)
    assert summary(model, layer_groups(model, order=order, by=by)) == summary(model, expected)


@settings(max_examples=15, derandomize=True)
@given(graphs())
def test_depths_of_an_order_in_random_graphs(graph):
    model = models.Graph(*graph)
    order = layer_order(model, example_inputs=torch.zeros(1, 2))
    expected = layer_groups(model, example_inputs=torch.zeros(1, 2))
    assert summary(model, layer_groups(model, order=order)) == summary(model, expected)
    found = layer_groups(model, order=dict(sorted(order.items())))  # as some writers of JSON sort them
    assert sorted(summary(model, found)) == sorted(summary(model, expected))


def test_an_order_is_made_on_the_meta_device_and_without_example_inputs():
    with torch.device("meta"):
        model = models.RegisteredInReverse()
    assert layer_order(model, example_inputs=TOKENS) == layer_order(models.RegisteredInReverse(), example_inputs=TOKENS)
    assert set(layer_order(model).values()) == {1, 2, 3}
    assert layer_order(model)["head.weight"] == 1


def test_frozen_parameters_have_a_depth_in_the_order_and_no_group():
    model = perceptron()
    order = layer_order(model, example_inputs=X)
    model[0].requires_grad_(False)
    assert layer_order(model, example_inputs=X) == order
    assert layers_of(model, order) == [(1, "0"), (2, "3"), (3, "4")]
    model[1].requires_grad_(False)
    assert layers_of(model, order) == [(2, "3"), (3, "4")]
    assert layer_order(model.requires_grad_(False), example_inputs=X) == order


def layers_of(model: nn.Module, order: dict[str, int]) -> list[tuple[int, str]]:
    return [(group["depth"], group["name"]) for group in layer_groups(model, order=order)]


def test_tied_weights_have_the_depth_of_their_earliest_place_and_untied_ones_their_own():
    model = models.TiedEmbedding()
    order = layer_order(model, example_inputs=TOKENS)
    assert order["embedding.weight"] == 1
    assert order["decoder.weight"] == order["decoder.bias"] == 3
    assert layers_of(model, {name: d for name, d in order.items() if name != "decoder.weight"})[0] == (1, "embedding")
    first = layer_groups(model, order=order)[0]
    assert first["param_names"] == [name for name, p in model.named_parameters() if p is first["params"][0]]
    model.decoder.weight = nn.Parameter(model.decoder.weight.detach().clone())
    assert layers(model, layer_groups(model, order=order)) == [(1, "embedding"), (2, "hidden"), (3, "decoder")]


def test_unused_parameters_are_last_in_the_order_with_a_warning():
    model = nn.ModuleDict({"unused": nn.Linear(4, 4), "used": nn.Linear(4, 4)})
    model.forward = lambda x: model["used"](x)
    with pytest.warns(UserWarning, match=r"unused\.weight, unused\.bias: ordered last"):
        order = layer_order(model, example_inputs=X)
    assert order == {"used.weight": 1, "used.bias": 1, "unused.weight": 2, "unused.bias": 2}


@pytest.mark.usefixtures("_process_group")
@pytest.mark.parametrize(
    "wrap",
    [
        nn.parallel.DistributedDataParallel,
        torch.compile,
        lambda model: nn.Sequential(*map(checkpoint_wrapper, model)),
        lambda model: nn.Sequential(*map(torch.compile, model)),
        lambda model: fully_shard(model, mesh=dist.init_device_mesh("cpu", (1,))),
        lambda model: torch.compile(fully_shard(model, mesh=dist.init_device_mesh("cpu", (1,)))),
        lambda model: FullyShardedDataParallel(model, **FSDP1),
    ],
    ids=["ddp", "compile", "checkpointing", "compiled layers", "fsdp2", "compiled fsdp2", "fsdp1"],
)
def test_names_are_matched_without_the_prefixes_of_wrappers(wrap):
    model = perceptron()
    order = layer_order(model, example_inputs=X)
    expected = layers_of(model, order)
    names = [group["param_names"] for group in layer_groups(model, order=order)]
    wrapped = wrap(model)
    assert layers_of(wrapped, order) == expected == [(1, "0"), (2, "3"), (3, "4")]
    assert [group["param_names"] for group in layer_groups(wrapped, order=order)] == names
    assert names[0] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    trained = {parameter for group in layer_groups(wrapped, order=order) for parameter in group["params"]}
    assert trained == set(wrapped.parameters())
    theirs = {name: order[name.replace("_orig_mod.", "").replace("module.", "")] for name in order}
    assert layers_of(wrapped, theirs) == expected


def test_an_order_by_the_names_of_a_wrapped_model():
    model = perceptron()
    order = layer_order(model, example_inputs=X)
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."):
        theirs = {prefix + name: depth for name, depth in order.items()}
        assert layer_groups(model, order=theirs)[1]["params"] == [*model[3].parameters()]


def test_an_order_of_another_model_is_refused_in_one_error():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))
    order = layer_order(model)
    other = {f"other.{name}": depth for name, depth in order.items()}
    with pytest.raises(
        ValueError, match=r"the order has no '0\.weight', .*'4\.bias' and 6 more; the model has no 'oth"
    ):
        layer_groups(model, order=other)
    with pytest.raises(ValueError, match=r"another model: the model has no '7\.weight', '7\.bias'\. Measure"):
        layer_groups(model[:7], order=order)
    model[0].requires_grad_(False)  # what is in no group needs no depth
    layer_groups(model, order={name: depth for name, depth in order.items() if name[0] != "0"})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"order": ["weight", "bias"]}, TypeError, "order must be a mapping of parameter names to depths, not list"),
        ({"order": {"weight": 1, "bias": 1.5}}, TypeError, r"order\['bias'\] must be an integer, not 1\.5"),
        ({"order": {"weight": 1, "bias": True}}, TypeError, r"order\['bias'\] must be an integer, not True"),
        ({"order": {"weight": 1, "bias": 1}, "example_inputs": X}, ValueError, "either order or example inputs"),
    ],
)
def test_what_is_no_order_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        layer_groups(nn.Linear(4, 4), **arguments)
