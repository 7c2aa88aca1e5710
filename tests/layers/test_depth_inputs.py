"""What is left as it was found; inputs of all kinds; random graphs; learned queries; norms and biases."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention.flex_attention import flex_attention

from lerac_fast.layers import _depth
from lerac_fast.layers._depth import first_uses, parameter_places
from tests.layers import models
from tests.layers.test_depth import depths


@pytest.mark.parametrize("reads_values", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_and_its_inputs_are_left_as_found(reads_values, training):
    model = models.KeepsState(reads_values=reads_values).train(training)
    model.norm.eval()
    model.linear.weight.grad = torch.ones(4, 4)
    x = torch.randn(3, 4)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers()), "x": x}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    attributes = [dict(module.__dict__) for module in model.modules()]
    states = torch.get_rng_state(), random.getstate()

    assert len(first_uses(model, (x,), {})) == 4

    after = {**dict(model.named_parameters()), **dict(model.named_buffers()), "x": x}
    assert after.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert after[name] is tensor
        assert tensor._version == versions[name]
        assert torch.equal(tensor.detach(), values[name])
    for module, attributes_before in zip(model.modules(), attributes, strict=True):
        assert module.__dict__.keys() == attributes_before.keys()
        assert all(module.__dict__[name] is value for name, value in attributes_before.items())
    assert (model.calls, model.cache, model.history) == (0, {}, [])
    assert [module.training for module in model.modules()] == [training, False, training]
    assert torch.equal(model.linear.weight.grad, torch.ones(4, 4))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_the_model_is_left_as_found_when_its_forward_pass_fails():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5))
    before = dict(model.named_parameters())
    with pytest.raises(RuntimeError, match="the forward pass of Sequential with the example inputs failed") as error:
        first_uses(model, (torch.zeros(2, 3),), {})
    assert isinstance(error.value.__cause__, RuntimeError)
    assert all(dict(model.named_parameters())[name] is parameter for name, parameter in before.items())
    assert model.training


def test_tensors_deep_in_the_inputs_are_followed_and_the_containers_kept():
    pair = models.Pair(torch.zeros(2, 3), torch.zeros(2, 3))
    batch = models.Batch(torch.zeros(2, 3), {"pairs": [pair]})
    measured = depths(models.TakesBatch(), batch, scale=torch.ones(()))
    assert (measured["first.weight"], measured["side.weight"], measured["head.weight"]) == (1, 1, 2)
    assert batch.extra == {"pairs": [pair]}


def test_a_packed_sequence_as_input():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.gru = nn.Linear(4, 2), nn.GRU(3, 4)

        def forward(self, packed):
            return self.head(self.gru(packed)[1])

    packed = nn.utils.rnn.pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)])
    measured = depths(Packed(), packed)
    assert (measured["gru.weight_ih_l0"], measured["head.weight"]) == (1, 2)


def test_sparse_tensors_are_followed():
    class GraphConvolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, adjacency, x):
            return self.second(torch.sparse.mm(adjacency, self.first(x)))

    with torch.device("meta"):  # which only fake tensors can run
        model = GraphConvolution()
    measured = depths(model, torch.eye(5).to_sparse(), torch.zeros(5, 3))
    assert (measured["first.weight"], measured["second.weight"]) == (1, 2)


def test_a_parameter_as_input():
    assert depths(nn.Linear(3, 2), nn.Parameter(torch.zeros(2, 3))) == {"weight": 1, "bias": 1}


def test_control_flow_on_parameters_that_lie_elsewhere_sees_their_copies_on_the_cpu(monkeypatch):
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.tensor(-1.0))
            self.positive, self.negative = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return (self.positive if self.gate > 0 else self.negative)(x * self.gate)

    # As if everything lay on a GPU; the copies are told apart by their sign.
    monkeypatch.setattr(_depth, "_on_the_cpu", lambda tensors: {id(tensor): -tensor.detach() for tensor in tensors})
    assert first_uses(Chooses(), (torch.zeros(1, 3),), {}).keys() == {"gate", "positive.weight", "positive.bias"}


def test_a_model_on_the_meta_device():
    with torch.device("meta"):
        model = models.Branches()
    for x in (torch.zeros(2, 4), torch.zeros(2, 4, device="meta")):
        measured = depths(model, x)
        assert (measured["short.weight"], measured["norm.weight"], measured["head.weight"]) == (1, 3, 4)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_recurrent_model_on_the_meta_device():
    measured = depths(models.RegisteredInReverse().to("meta"), torch.zeros(2, 7, dtype=torch.long))
    assert (measured["embedding.weight"], measured["lstm.weight_hh_l1"], measured["head.weight"]) == (1, 2, 3)


def test_compiled_parts_run_eagerly_under_their_plain_names():
    def never(*_):
        raise AssertionError("compiled")

    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0] = torch.compile(model[0], backend=never, fullgraph=True)
    model[1].compile(backend=never, fullgraph=True)
    assert depths(model, torch.zeros(2, 3)) == {"0.weight": 1, "0.bias": 1, "1.weight": 2, "1.bias": 2}
    assert list(parameter_places(model)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_forward_pass_that_looks_at_addresses():
    class Addressed(nn.Linear):
        def forward(self, x):
            return super().forward(x) if self.weight.data_ptr() == 0 else x

    model = Addressed(3, 2, device="meta")  # which only fake tensors can run
    assert depths(model, torch.zeros(2, 3)) == {"weight": 1, "bias": 1}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_higher_order_operators_are_followed():
    class Flexible(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(4, 2), nn.Linear(4, 4)

        def forward(self, x):
            x = self.first(x)[:, None]
            return self.second(flex_attention(x, x, x))

    measured = depths(Flexible(), torch.zeros(2, 5, 4))
    assert (measured["first.weight"], measured["second.weight"]) == (1, 2)


def test_inputs_without_a_tensor_are_refused():
    with pytest.raises(ValueError, match="no tensor"):
        first_uses(nn.Linear(3, 2), (3,), {})


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_a_scripted_part_is_refused():
    model = nn.Sequential(torch.jit.script(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match=r"Linear is compiled by torch\.jit"):
        first_uses(model, (torch.zeros(2, 3),), {})


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 8))
    parents = [draw(st.lists(st.integers(-1, node - 1), min_size=1, max_size=3, unique=True)) for node in range(size)]
    return parents, draw(st.permutations(range(size)))


@settings(max_examples=60, derandomize=True)
@given(graphs())
def test_random_graphs(graph):
    parents, registration = graph
    expected = {-1: 0}
    for node, sources in enumerate(parents):
        expected[node] = 1 + max(expected[source] for source in sources)
    measured = depths(models.Graph(parents, registration), torch.zeros(1, 2))
    assert measured == {
        f"node{node}.{name}": expected[node] for node in range(len(parents)) for name in ("weight", "bias")
    }


def test_layers_on_learned_queries_follow_the_data_that_they_meet_in_their_order():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)
            self.on_queries = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
            self.queries = nn.Embedding(5, 4)
            self.memory = nn.Linear(3, 4)

        def forward(self, x):
            attended = self.on_queries(self.queries.weight) @ self.memory(x).transpose(1, 2)
            return self.head(attended[..., :4])

    assert depths(Decoder(), torch.zeros(2, 6, 3)) == {
        "memory.weight": 1,
        "memory.bias": 1,
        "queries.weight": 2,
        "on_queries.0.weight": 3,
        "on_queries.0.bias": 3,
        "on_queries.1.weight": 4,
        "on_queries.1.bias": 4,
        "head.weight": 5,
        "head.bias": 5,
    }


def test_norms_and_biases_are_known_by_what_they_do():
    class RMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.shift = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight + self.shift

    class ResponseNorm(nn.Module):  # of ConvNeXt V2
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(1, 1, 4))

        def forward(self, x):
            norm = x.norm(dim=-2, keepdim=True)
            return x + self.gamma * (x * (norm / (norm.mean(-1, keepdim=True) + 1e-6)))

    class PlanarNormalizingFlow(nn.Module):
        def __init__(self):
            super().__init__()
            self.u, self.w = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

        def forward(self, x):
            return x + self.u * torch.tanh((self.w * x).sum(-1, keepdim=True))

    class LayerScale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return x * self.gamma

    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.BatchNorm1d(3),
        RMSNorm(),
        ResponseNorm(),
        PlanarNormalizingFlow(),
        LayerScale(),
        nn.PReLU(3),
    )
    roles = {name: use.role for name, use in first_uses(model, (torch.zeros(2, 3, 4),), {}).items()}
    assert roles == {
        "0.weight": None,
        "0.bias": None,
        "1.weight": "norm",
        "1.bias": "norm",
        "2.weight": "norm",
        "2.shift": "bias",
        "3.gamma": "norm",
        "4.u": None,
        "4.w": None,
        "5.gamma": None,
        "6.weight": None,
    }
