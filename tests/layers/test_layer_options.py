"""Blocks, options of groups, what is refused, and models that are no chains of modules."""

import re
from collections import OrderedDict

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lerac_fast.layers.groups import layer_groups
from tests.layers import models
from tests.layers.test_depth_inputs import graphs
from tests.layers.test_layers import IMAGES, layers, summary


def test_blocks_by_pattern_are_the_shortest_matching_prefix_in_whole_components():
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Linear(3, 3),
            norm=nn.LayerNorm(3),
            block=nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in range(12)),
            final_norm=nn.LayerNorm(3),
            head=nn.Linear(3, 2),
        )
    )
    expected = ["stem", *(f"block.{i}" for i in range(12)), "head"]
    for by in (
        r"block\.\d+",
        re.compile(r".*\.\d+"),
        lambda name: (re.match(r"block\.\d+", name) or [None])[0],
    ):
        found = summary(model, layer_groups(model, by=by))
        assert [name for _, name, _ in found] == expected
        assert found[0][2] == ["stem.weight", "stem.bias", "norm.weight", "norm.bias"]
        assert found[-2][2][-1] == "final_norm.bias"
    names = [group["name"] for group in layer_groups(model, by=r"block\.\d")]
    assert names == [*expected[:11], "block.10.0", "block.11.0", "head"]


def test_a_function_may_name_every_layer():
    model = torchvision.models.resnet18()
    groups = layer_groups(model, example_inputs=IMAGES, by=lambda name: "head" if name.startswith("fc") else "body")
    assert layers(model, groups) == [(1, "body"), (2, "head")]


def test_the_depth_of_a_block_is_that_of_its_first_weight_and_not_of_a_norm():
    class TwoBranches(nn.Module):
        def __init__(self):
            super().__init__()
            self.normed = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3))
            self.plain = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

        def forward(self, x):
            return self.normed(x) + self.plain(x)

    model = TwoBranches()
    groups = layer_groups(model, example_inputs=torch.zeros(1, 3), by=r"normed|plain")
    assert layers(model, groups) == [(1, "plain"), (2, "normed")]


def test_options_split_a_layer_into_groups_of_the_same_depth_and_names_of_their_own():
    model = torchvision.models.resnet18()
    groups = layer_groups(
        model,
        example_inputs=IMAGES,
        by="resnet",
        options=lambda name, p: {"weight_decay": 0.0} if p.ndim < 2 else ({"lr": 1.0} if name == "fc.weight" else None),
    )
    summary(model, groups)
    assert len(groups) == 20
    for group in groups:
        vectors = {parameter.ndim < 2 for parameter in group["params"]}
        assert vectors == {group.get("weight_decay") == 0.0}
    assert [(group["name"], group["depth"], group.get("lr")) for group in groups[-2:]] == [
        ("fc", 10, 1.0),
        ("fc.bias", 10, None),
    ]
    assert len({group["name"] for group in groups}) == len(groups)  # loggers of rates ask for it


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adamax])
def test_the_groups_are_valid_for_any_optimizer(optimizer):
    model = models.Branches()
    x = torch.randn(2, 4)
    groups = layer_groups(model, example_inputs=x, options=lambda _, p: {"lr": 0.0} if p.ndim < 2 else {})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    built = optimizer(groups, lr=0.1)
    model(x).square().sum().backward()
    built.step()
    assert [group["name"] for group in built.param_groups] == [group["name"] for group in groups]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (parameter.ndim < 2)


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_what_cannot_be_grouped_is_refused_by_name():
    model = models.Branches()
    x = torch.zeros(2, 4)
    with pytest.raises(TypeError, match="not list"):
        layer_groups(list(model.parameters()))
    with pytest.raises(ValueError, match="Branches has no trainable parameters"):
        layer_groups(models.Branches().requires_grad_(False))
    with pytest.raises(ValueError, match=r"uninitialised parameters: 0\.weight, 0\.bias"):
        layer_groups(nn.Sequential(nn.LazyLinear(3)), example_inputs=x)
    with pytest.raises(ValueError, match="no tensor"):
        layer_groups(model, example_inputs=3)
    with pytest.raises(TypeError, match="example_kwargs must be a mapping, not Tensor"):
        layer_groups(model, example_kwargs=x)
    with pytest.raises(RuntimeError, match=r"forward pass of Branches with the example inputs failed.*shapes"):
        layer_groups(model, example_inputs=torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("by", "error", "message"),
    [
        (3, TypeError, "by must be a string, a compiled pattern or a function, not 3"),
        ("modules", ValueError, "by='modules' matches no block of short.weight"),
        ("resnet", ValueError, "by='resnet' matches no block"),
        ("layer(", ValueError, r"by='layer\(' is not a regular expression"),
        (lambda _: 3, TypeError, r"by\('short.weight'\) must return the name of a layer or None, not 3"),
    ],
)
def test_wrong_granularity_is_refused(by, error, message):
    with pytest.raises(error, match=message):
        layer_groups(models.Branches(), by=by)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            lambda *_: 0.1,
            TypeError,
            r"options\('short.weight', parameter\) must return a mapping or None, not 0.1",
        ),
        (lambda *_: {"name": "x", "lr": 1.0}, ValueError, "sets name, which"),
        (lambda *_: {"params": [], "depth": 0}, ValueError, "sets depth, params, which"),
        (lambda *_: {"param_names": []}, ValueError, "sets param_names, which"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        layer_groups(models.Branches(), options=options)


@settings(max_examples=60, derandomize=True)
@given(graphs(), st.data())
def test_random_graphs(graph, data):
    parents, registration = graph
    model = models.Graph(parents, registration)
    frozen = data.draw(st.sets(st.integers(0, len(parents) - 1), max_size=len(parents) - 1))
    for node in frozen:
        model.get_submodule(f"node{node}").requires_grad_(False)
    found = {name: depth for depth, name in layers(model, layer_groups(model, example_inputs=torch.zeros(1, 2)))}
    assert found.keys() == {f"node{node}" for node in range(len(parents))} - {f"node{node}" for node in frozen}
    for node, sources in enumerate(parents):
        for source in sources:
            if {node, source}.isdisjoint({-1} | frozen):
                assert found[f"node{source}"] < found[f"node{node}"]


@pytest.mark.parametrize("by", [r"blocks\.\d+", "module"])
def test_blocks_with_a_condition_lie_where_their_main_path_is(by):
    model = models.Conditioned(4)
    groups = layer_groups(model, example_inputs=(torch.zeros(1, 4), torch.zeros(1, 3)), by=by)
    depths = {name: depth for depth, name in layers(model, groups)}
    if by == "module":
        assert {depths[f"blocks.{i}.condition"] for i in range(4)} == {1}
        assert [depths[f"blocks.{i}.weight"] for i in range(4)] == [2, 3, 4, 5]
    else:
        assert depths == {"stem": 1, **{f"blocks.{i}": 2 + i for i in range(4)}}


def test_blocks_of_a_decoder_follow_the_encoder():
    model = nn.Transformer(8, 2, 3, 3, 16, batch_first=True)
    groups = layer_groups(model, example_inputs=(torch.zeros(1, 5, 8),) * 2, by=r"(encoder|decoder)\.layers\.\d+")
    blocks = [name for _, name in layers(model, groups)]
    assert blocks == [f"{stack}.layers.{i}" for stack in ("encoder", "decoder") for i in range(3)]


def test_a_part_that_runs_from_the_second_chunk_on_leaves_its_block_where_the_first_has_put_it():
    class Block(nn.Module):  # as in autoencoders for video, which go over time in chunks and remember the last
        def __init__(self):
            super().__init__()
            self.weight, self.over_time = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, memory):
            y = self.weight(x)
            return y if memory is None else y + self.over_time(y + memory)

    class Chunked(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(3))

        def forward(self, x):
            memory = [None] * 3
            for chunk in x.unbind(1):
                for i, block in enumerate(self.blocks):
                    chunk = memory[i] = block(chunk, memory[i])
            return chunk

    model = Chunked()
    groups = layer_groups(model, example_inputs=torch.zeros(1, 2, 4), by=r"blocks\.\d")
    assert layers(model, groups) == [(1, "blocks.0"), (2, "blocks.1"), (3, "blocks.2")]


def test_a_norm_does_not_join_a_layer_that_was_used_before_the_layers_that_feed_the_norm():
    class Blends(nn.Module):  # as the temporal blocks of diffusers
        def __init__(self):
            super().__init__()
            self.mix, self.over_time = nn.Linear(4, 4), nn.Linear(4, 4)
            self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.mix(x)
            return self.head(self.norm(self.mix(self.over_time(x))))

    model = Blends()
    found = layers(model, layer_groups(model, example_inputs=torch.zeros(1, 4)))
    assert found == [(1, "mix"), (2, "over_time"), (3, "norm"), (4, "head")]


def test_norms_that_contain_modules_follow():
    class BatchNormAct(nn.BatchNorm2d):  # as timm's
        def __init__(self, channels):
            super().__init__(channels)
            self.drop, self.act = nn.Identity(), nn.ReLU()

        def forward(self, x):
            return self.act(self.drop(super().forward(x)))

    model = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct(4), nn.Conv2d(4, 4, 3))
    for example in (torch.zeros(1, 3, 9, 9), None):
        assert summary(model, layer_groups(model, example_inputs=example)) == [
            (1, "0", ["0.weight", "0.bias", "1.weight", "1.bias"]),
            (2, "2", ["2.weight", "2.bias"]),
        ]


@pytest.mark.parametrize("example", [torch.zeros(1, 4), None], ids=["dataflow", "registration"])
def test_lists_of_parameters_are_a_layer_for_each_operation(example):
    class Lists(nn.Module):
        def __init__(self):
            super().__init__()
            self.chain = nn.ParameterList(torch.randn(4, 4) for _ in range(2))
            self.named = nn.ParameterDict({"weight": torch.randn(3, 4), "bias": torch.randn(3)})

        def forward(self, x):
            x = x @ self.chain[0] @ self.chain[1]
            return nn.functional.linear(x, self.named["weight"], self.named["bias"])

    model = Lists()
    found = summary(model, layer_groups(model, example_inputs=example))
    assert [(depth, members) for depth, _, members in found] == [
        (1, ["chain.0"]),
        (2, ["chain.1"]),
        (3, ["named.bias", "named.weight"]),  # in order of registration, which is that of the names
    ]


def test_a_module_that_uses_its_parameters_one_after_the_other_is_as_many_layers():
    class Functional(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(3, 3), models.Functional())

    model = Functional()
    assert summary(model, layer_groups(model, example_inputs=torch.zeros(2, 3))) == [
        (1, "0", ["0.weight", "0.bias"]),
        (2, "1.b1", ["1.b1", "1.first"]),
        (3, "1.b2", ["1.b2", "1.second"]),
        (4, "1.scale", ["1.scale"]),
    ]


@pytest.mark.parametrize("training", [False, True])
def test_parameters_of_masked_inputs_lie_where_training_puts_them(training):
    class Masked(nn.Module):  # as the masked_spec_embed of wav2vec 2.0
        def __init__(self):
            super().__init__()
            self.head, self.masked, self.stem = nn.Linear(4, 2), nn.Parameter(torch.zeros(4)), nn.Linear(3, 4)

        def forward(self, x):
            x = self.stem(x)
            if self.training:
                x[:, 0] = self.masked
            return self.head(x)

    model = Masked().train(training)
    found = layers(model, layer_groups(model, example_inputs=torch.zeros(1, 5, 3)))
    assert found == [(1, "stem"), (2, "masked"), (3, "head")]
