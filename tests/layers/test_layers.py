"""Which parameters form which layer, in which order, with which options."""

import re
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations

from lerac_fast.layers.groups import layer_groups
from tests.layers import models

IMAGES = torch.zeros(2, 3, 64, 64)
WRAPPERS = re.compile(r"(^module|\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module))\.")


def summary(model: nn.Module, groups: list[dict]) -> list[tuple[int, str, list[str]]]:
    """(depth, layer, parameters) of each group; checks that every trainable parameter is in one, in order, and that
    groups have the names of theirs, without what wrappers add."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [names[parameter] for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(names[parameter] for parameter in model.parameters() if parameter.requires_grad)
    for group in groups:
        assert group["param_names"] == [WRAPPERS.sub("", names[parameter]) for parameter in group["params"]]
    depths = [group["depth"] for group in groups]
    assert depths == sorted(depths)
    assert set(depths) == set(range(1, max(depths) + 1))
    return [(group["depth"], group["name"], [names[p] for p in group["params"]]) for group in groups]


def layers(model: nn.Module, groups: list[dict]) -> list[tuple[int, str]]:
    return [(depth, name) for depth, name, _ in summary(model, groups)]


def test_resnet18_norms_join_their_convolution_and_shortcuts_share_a_depth():
    model = torchvision.models.resnet18()
    found = summary(model, layer_groups(model, example_inputs=IMAGES))
    assert found[:2] == [
        (1, "conv1", ["conv1.weight", "bn1.weight", "bn1.bias"]),
        (2, "layer1.0.conv1", ["layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn1.bias"]),
    ]
    assert found[5:8] == [
        (6, "layer2.0.conv1", ["layer2.0.conv1.weight", "layer2.0.bn1.weight", "layer2.0.bn1.bias"]),
        (
            6,
            "layer2.0.downsample.0",
            [f"layer2.0.downsample.{n}" for n in ("0.weight", "1.weight", "1.bias")],
        ),
        (7, "layer2.0.conv2", ["layer2.0.conv2.weight", "layer2.0.bn2.weight", "layer2.0.bn2.bias"]),
    ]
    assert found[-1] == (18, "fc", ["fc.weight", "fc.bias"])
    assert len(found) == 21


@pytest.mark.parametrize("example", [IMAGES, None], ids=["dataflow", "registration"])
def test_resnet_layout_of_the_authors(example):
    model = torchvision.models.resnet18()
    found = summary(model, layer_groups(model, example_inputs=example, by="resnet"))
    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    assert [name for _, name, _ in found] == ["conv1", *blocks, "fc"]
    assert [depth for depth, _, _ in found] == list(range(1, 11))
    assert found[0][2] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    for _, block, members in found[1:-1]:
        assert members == [name for name, _ in model.named_parameters() if name.startswith(f"{block}.")]


@pytest.mark.parametrize("example", [IMAGES, None], ids=["dataflow", "registration"])
def test_vgg16_bn_is_a_chain_of_16_layers(example):
    model = torchvision.models.vgg16_bn()
    found = summary(model, layer_groups(model, example_inputs=example))
    assert [depth for depth, _, _ in found] == list(range(1, 17))
    features = [f"features.{i}" for i, module in enumerate(model.features) if isinstance(module, nn.Conv2d)]
    assert [name for _, name, _ in found] == [*features, "classifier.0", "classifier.3", "classifier.6"]
    assert found[1][2] == [f"features.{i}.{kind}" for i in (3, 4) for kind in ("weight", "bias")]


def test_densenet121_norms_before_a_convolution_join_the_layer_whose_output_they_follow():
    model = torchvision.models.densenet121()
    found = summary(model, layer_groups(model, example_inputs=IMAGES))
    assert [depth for depth, _, _ in found] == list(range(1, 122))  # 120 convolutions and the classifier
    members = {name: [re.sub(r".*\.", "", p[: p.rindex(".")]) for p in names] for _, name, names in found}
    assert members["features.conv0"] == ["conv0", "norm0", "norm0", "norm1", "norm1"]
    # The concatenation that denselayer2 normalises ends with the output of denselayer1.
    assert members["features.denseblock1.denselayer1.conv2"] == ["conv2", "norm1", "norm1"]
    assert members["features.denseblock4.denselayer16.conv2"] == ["conv2", "norm5", "norm5"]


def test_transformer_encoder_post_norm():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    found = summary(model, layer_groups(model, example_inputs=torch.zeros(2, 5, 8)))
    parts = ["self_attn", "self_attn.out_proj", "linear1", "linear2"]
    assert [name for _, name, _ in found] == [f"layers.{i}.{part}" for i in range(2) for part in parts]
    members = [re.sub(r"layers\.\d\.|\.weight|\.bias", "", name) for name in found[1][2] + found[3][2]]
    assert members == ["self_attn.out_proj"] * 2 + ["norm1"] * 2 + ["linear2"] * 2 + ["norm2"] * 2


def test_transformer_encoder_pre_norm_starts_with_a_norm_on_the_raw_input():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    groups = layer_groups(model, example_inputs=torch.zeros(2, 5, 8))
    members = {name: names for _, name, names in summary(model, groups)}
    assert members["layers.0.norm1"] == ["layers.0.norm1.weight", "layers.0.norm1.bias"]
    assert members["layers.0.linear2"][-2:] == ["layers.1.norm1.weight", "layers.1.norm1.bias"]
    assert members["layers.1.linear2"][-2:] == ["norm.weight", "norm.bias"]
    assert len(groups) == 9


def test_dataflow_overrides_the_order_of_registration_which_stands_in_for_it():
    model = models.RegisteredInReverse()
    ids = torch.zeros(2, 7, dtype=torch.long)
    groups = layer_groups(model, example_inputs=ids)
    assert layers(model, groups) == [(1, "embedding"), (2, "lstm"), (3, "head")]
    assert len(groups[1]["params"]) == 8
    assert layers(model, layer_groups(model)) == [(1, "head"), (2, "lstm"), (3, "embedding")]


def test_norms_join_the_layer_registered_before_them_without_example_inputs():
    model = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert summary(model, layer_groups(model)) == [
        (1, "0", ["0.weight", "0.bias"]),
        (2, "1", [f"{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")]),
        (3, "4", ["4.weight", "4.bias"]),
    ]


def test_tied_weights_belong_to_their_earliest_use():
    model = models.TiedEmbedding()
    groups = layer_groups(model, example_inputs=torch.zeros(2, 7, dtype=torch.long))
    assert [(group["depth"], group["name"]) for group in groups] == [
        (1, "embedding"),
        (2, "hidden"),
        (3, "decoder"),
    ]
    assert groups[0]["params"] == [model.embedding.weight]
    assert groups[2]["params"] == [model.decoder.bias]
    summary(model, groups)


def test_parameters_of_the_model_itself_are_layers_by_the_operation_that_uses_them():
    model = models.Functional()
    assert summary(model, layer_groups(model, example_inputs=torch.zeros(2, 3))) == [
        (1, "b1", ["b1", "first"]),
        (2, "b2", ["b2", "second"]),
        (3, "scale", ["scale"]),
    ]
    assert [name for _, name in layers(model, layer_groups(model))] == [
        "scale",
        "b2",
        "second",
        "b1",
        "first",
    ]


def test_parameters_beside_child_modules():
    model = models.ClassToken()
    assert summary(model, layer_groups(model, example_inputs=torch.zeros(2, 4, 3))) == [
        (1, "patch", ["patch.weight", "patch.bias"]),
        (2, "token", ["token"]),
        (3, "position", ["position", "norm.weight", "norm.bias"]),
    ]


def test_a_norm_after_several_layers_joins_the_deepest():
    model = models.Branches()
    found = summary(model, layer_groups(model, example_inputs=torch.zeros(2, 4)))
    assert [(depth, name) for depth, name, _ in found] == [
        (1, "long.0"),
        (1, "short"),
        (2, "long.2"),
        (3, "head"),
    ]
    assert found[2][2] == ["long.2.weight", "long.2.bias", "norm.weight", "norm.bias"]


def test_norms_are_known_by_name_and_shape_and_a_lone_bias_joins_what_it_follows():
    class RMSNormOfMine(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1, 4))

        def forward(self, x):
            return x * x.square().mean(-1, keepdim=True).rsqrt() * self.gain

    class NormalizedLinear(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(x, nn.functional.normalize(self.weight))

    class PreNormBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain, self.relu = nn.Parameter(torch.ones(4)), nn.ReLU()

        def forward(self, x):
            return self.relu(x) * self.gain

    class Bias(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return x + self.bias

    class LayerNorm2d(nn.LayerNorm):
        pass

    model = nn.Sequential(
        nn.Linear(4, 4, bias=False),
        RMSNormOfMine(),
        NormalizedLinear(4, 4, bias=False),
        Bias(),
        LayerNorm2d([5, 4]),
        PreNormBlock(),
        nn.Linear(4, 4),
    )
    for example in (torch.zeros(2, 5, 4), None):
        assert summary(model, layer_groups(model, example_inputs=example)) == [
            (1, "0", ["0.weight", "1.gain"]),
            (2, "2", ["2.weight", "3.bias", "4.weight", "4.bias"]),
            (3, "5", ["5.gain"]),
            (4, "6", ["6.weight", "6.bias"]),
        ]


@pytest.mark.parametrize("example", [torch.zeros(2, 3), None], ids=["dataflow", "registration"])
def test_reparametrized_weights_keep_the_name_of_their_module(example):
    model = nn.Sequential(
        OrderedDict(
            first=parametrizations.weight_norm(nn.Linear(3, 4)),
            norm=nn.BatchNorm1d(4),
            second=nn.Linear(4, 2),
        )
    )
    found = summary(model, layer_groups(model, example_inputs=example))
    assert [(depth, name, len(members)) for depth, name, members in found] == [
        (1, "first", 5),
        (2, "second", 2),
    ]
    root = parametrizations.weight_norm(nn.Linear(3, 4))
    assert len(layer_groups(root, example_inputs=torch.zeros(2, 3))) == 1


def test_unused_parameters_go_last_with_a_warning_and_frozen_ones_are_left_out():
    model = models.Unfinished()
    with pytest.warns(UserWarning, match=r"does not use unused\.weight, unused\.bias: ordered last") as record:
        groups = layer_groups(model, example_inputs=torch.zeros(2, 3))
    assert record[0].filename == __file__
    assert summary(model, groups) == [
        (1, "frozen", ["norm.weight", "norm.bias"]),
        (2, "head", ["head.weight", "head.bias"]),
        (3, "unused", ["unused.weight", "unused.bias"]),
    ]


def test_an_unused_parameter_of_a_used_layer_goes_last():
    model = nn.Sequential(nn.Linear(3, 2))
    model[0].register_parameter("spare", nn.Parameter(torch.zeros(1)))
    with pytest.warns(UserWarning, match=r"does not use 0\.spare"):
        groups = layer_groups(model, example_inputs=torch.zeros(1, 3))
    assert summary(model, groups) == [(1, "0", ["0.weight", "0.bias"]), (2, "0.spare", ["0.spare"])]


@pytest.mark.parametrize(
    "inputs",
    [
        {"example_inputs": (torch.zeros(2, 3), torch.zeros(2, 3))},
        {"example_inputs": [torch.zeros(2, 3), torch.zeros(2, 3)]},
        {"example_inputs": {"query": torch.zeros(2, 3), "key": torch.zeros(2, 3)}},
        {"example_kwargs": {"query": torch.zeros(2, 3), "key": torch.zeros(2, 3)}},
        {"example_inputs": torch.zeros(2, 3), "example_kwargs": {"key": torch.zeros(2, 3)}},
    ],
    ids=["tuple", "list", "mapping", "keywords", "both"],
)
def test_ways_to_give_several_inputs(inputs):
    model = models.TwoInputs()
    assert layers(model, layer_groups(model, **inputs)) == [(1, "on_query"), (1, "on_key"), (2, "head")]


def test_a_mapping_that_is_not_keywords_is_the_only_input():
    class TakesMapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, batch):
            return self.second(self.first(batch["x"]))

    model = TakesMapping()
    assert layers(model, layer_groups(model, example_inputs={"x": torch.zeros(1, 3)})) == [
        (1, "first"),
        (2, "second"),
    ]


def test_a_named_tuple_or_a_dataclass_is_one_input():
    batch = models.Batch(torch.zeros(2, 3), {"pairs": [models.Pair(torch.zeros(2, 3), torch.zeros(2, 3))]})
    model = models.TakesBatch()
    groups = layer_groups(model, example_inputs=batch, example_kwargs={"scale": torch.ones(())})
    assert layers(model, groups) == [(1, "first"), (1, "side"), (2, "head")]

    class TakesPair(nn.Linear):
        def forward(self, pair):
            return super().forward(pair.left + pair.right)

    assert len(layer_groups(TakesPair(3, 2), example_inputs=batch.extra["pairs"][0])) == 1


@pytest.mark.parametrize("how", ["if", "item", "nonzero"])
def test_data_dependent_control_flow(how):
    model = models.DataDependent(how)
    assert layers(model, layer_groups(model, example_inputs=torch.randn(5, 4))) == [
        (1, "body.0"),
        (2, "head"),
    ]


def _never(*_):
    raise AssertionError("compiled")


@pytest.mark.usefixtures("_process_group")
@pytest.mark.parametrize(
    "wrap",
    [
        nn.parallel.DistributedDataParallel,
        nn.DataParallel,
        lambda model: torch.compile(model, backend=_never),
        lambda model: torch.compile(nn.parallel.DistributedDataParallel(model), backend=_never),
    ],
    ids=["ddp", "dp", "compile", "compiled-ddp"],
)
def test_wrappers_are_seen_through(wrap):
    model = models.Branches()
    x = torch.zeros(2, 4)
    expected = layer_groups(model, example_inputs=x)
    found = layer_groups(wrap(model), example_inputs=x)
    assert summary(model, found) == summary(model, expected)


def test_a_model_on_the_meta_device():
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    assert len(layer_groups(model, example_inputs=IMAGES)) == 21
