"""Tokens: along which axes, and of what, sequences and grids are smoothed."""

import warnings
from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from lerac_fast.cbs.cbs import CBS
from lerac_fast.cbs.sites import Tokens
from tests.reference.gaussian_smooth import gaussian_smooth

# Tokens: along a sequence


class Returns(nn.Module):
    """Returns its input, packed into whatever `pack` makes of it."""

    def __init__(self, pack=lambda x: x):
        super().__init__()
        self.pack = pack

    def forward(self, x, mask=None, *, padding=None):  # noqa: ARG002
        return self.pack(x)


def smooth(x, dims, sigma=1.0):
    return gaussian_smooth(x, sigma, 3, dims).to(x.dtype)


def run(module, tokens, *args, **kwargs):
    with CBS(module, where={"": tokens}):
        return module(*args, **kwargs)


X = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("axis", [0, 1])
def test_tokens_are_smoothed_along_their_axis(axis):
    torch.testing.assert_close(run(Returns(), Tokens(axis=axis), X), smooth(X, [axis]))


def test_nothing_is_left_on_the_module():
    module = Returns()
    run(module, Tokens(), X)
    assert not module._forward_hooks
    assert not module._forward_hooks_with_kwargs


def test_unbatched_tokens():
    torch.testing.assert_close(run(Returns(), Tokens(axis=0), X[0]), smooth(X[0], [0]))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_class_tokens_are_left_alone_and_do_not_leak(count, axis):
    x = X if axis == 1 else X.transpose(0, 1)
    smoothed = run(Returns(), Tokens(axis=axis, class_tokens=count), x)
    front, body = x.tensor_split([count], axis)
    expected = torch.cat([front, smooth(body, [axis])], axis)
    torch.testing.assert_close(smoothed, expected)


@pytest.mark.parametrize("class_tokens", [0, 1])
def test_a_grid_is_smoothed_in_two_dimensions(class_tokens):
    smoothed = run(Returns(), Tokens(class_tokens=class_tokens, grid=(2, 3)), X[:, : 6 + class_tokens])
    expected = smooth(X[:, class_tokens : 6 + class_tokens].unflatten(1, (2, 3)), [1, 2]).flatten(1, 2)
    assert torch.equal(smoothed[:, :class_tokens], X[:, :class_tokens])
    torch.testing.assert_close(smoothed[:, class_tokens:], expected)


PADDING = torch.tensor([[0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0, 1]]).bool()  # the end, and a hole
ADDITIVE = torch.zeros(2, 7).masked_fill(PADDING, -torch.inf)


def expected_with(padding, class_tokens=0):
    visible = X.masked_fill(padding[..., None], 0)
    front, body = visible.tensor_split([class_tokens], 1)
    smoothed = torch.cat([front, smooth(body, [1])], 1)
    return torch.where(padding[..., None], X, smoothed)


@pytest.mark.parametrize("mask", [PADDING, ADDITIVE, ADDITIVE[:, None, None], ADDITIVE.bfloat16()])
@pytest.mark.parametrize("axis", [0, 1])
def test_padding_is_left_alone_and_does_not_leak(mask, axis):
    x = X if axis == 1 else X.transpose(0, 1)
    for tokens in (
        Tokens(axis=axis, padding="padding"),
        Tokens(axis=axis, padding=lambda _, kwargs: kwargs["padding"]),
    ):
        smoothed = run(Returns(), tokens, x, padding=mask)
        torch.testing.assert_close(smoothed if axis == 1 else smoothed.transpose(0, 1), expected_with(PADDING))


CAUSAL = torch.ones(7, 7, dtype=torch.bool).tril()
ATTENDED = {  # as scaled_dot_product_attention has it: True where a query (a row) attends to a key
    "keys": ~PADDING[:, None, None],
    "every query": (~PADDING[:, None, None]).expand(2, 1, 7, 7),
    "heads": (~PADDING[:, None, None]).expand(2, 4, 7, 7),
    "causal": ~PADDING[:, None, None] & CAUSAL,
    "sliding window": ~PADDING[:, None, None] & CAUSAL & ~CAUSAL.tril(-3),
}


@pytest.mark.parametrize("attended", ATTENDED.values(), ids=ATTENDED.keys())
@pytest.mark.parametrize("lowest", [None, -torch.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("class_tokens", [0, 1])
def test_masks_of_attention_tell_padding(attended, lowest, class_tokens):
    mask = attended if lowest is None else torch.where(attended, 0.0, lowest)
    tokens = Tokens(class_tokens=class_tokens, padding="padding")
    expected = expected_with(PADDING, class_tokens)
    torch.testing.assert_close(run(Returns(), tokens, X, padding=mask), expected)
    one_for_all = run(Returns(), tokens, X, padding=mask[:1])
    torch.testing.assert_close(one_for_all, expected_with(PADDING[:1].expand(2, 7), class_tokens))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("causal", [False, True])
def test_layers_of_transformers_name_their_mask(attention, causal):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=20, is_decoder=causal, attn_implementation=attention, **sizes)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    padded, plain = torch.randint(1, 20, (2, 7)), torch.ones(2, 7, dtype=torch.int64)
    short = plain * (torch.arange(7) < torch.tensor([[5], [7]]))
    with CBS(model, where={r"encoder\.layer\.\d": Tokens(padding="attention_mask")}):
        output = model(padded, attention_mask=short).last_hidden_state
        alone = model(padded[:1, :5], attention_mask=plain[:1, :5]).last_hidden_state
        whole = model(padded[1:]).last_hidden_state
    torch.testing.assert_close(output[:1, :5], alone)
    torch.testing.assert_close(output[1:], whole)


def test_padding_may_hold_anything():
    x = X.masked_fill(PADDING[..., None], torch.nan)
    smoothed = run(Returns(), Tokens(padding="padding"), x, padding=PADDING)
    torch.testing.assert_close(smoothed[~PADDING], expected_with(PADDING)[~PADDING])
    assert smoothed[PADDING].isnan().all()


def test_padding_is_found_by_position_and_may_be_missing():
    for args, kwargs in (((X, PADDING), {}), ((X,), {"mask": PADDING})):
        torch.testing.assert_close(run(Returns(), Tokens(padding="mask"), *args, **kwargs), expected_with(PADDING))
    for args, kwargs in (((X,), {}), ((X, None), {}), ((X,), {"mask": None})):
        torch.testing.assert_close(run(Returns(), Tokens(padding="mask"), *args, **kwargs), smooth(X, [1]))


def test_padding_with_class_tokens():
    smoothed = run(Returns(), Tokens(class_tokens=1, padding="mask"), X, PADDING)
    torch.testing.assert_close(smoothed, expected_with(PADDING, class_tokens=1))


def test_padding_on_a_grid():
    padding = PADDING[:, 1:]
    smoothed = run(Returns(), Tokens(grid=(3, 2), padding="mask"), X[:, 1:], padding)
    visible = X[:, 1:].masked_fill(padding[..., None], 0).unflatten(1, (3, 2))
    expected = torch.where(padding[..., None], X[:, 1:], smooth(visible, [1, 2]).flatten(1, 2))
    torch.testing.assert_close(smoothed, expected)


# Tokens: the modules that give them


def test_transformer_encoder_with_padding():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    padding = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()
    cbs = CBS(model, where={r"layers\.\d": Tokens(padding="src_key_padding_mask")})
    outputs = model(x, src_key_padding_mask=padding)
    alone = model(x[:1, :3])  # without the padding, the same
    torch.testing.assert_close(outputs[0, :3], alone[0])
    # In evaluation torch takes a path of its own, with nested tensors.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors")
        nested = model.eval()(x, src_key_padding_mask=padding)
    torch.testing.assert_close(nested[~padding], outputs[~padding])
    cbs.remove()
    assert not torch.allclose(outputs[0, :3], model(x[:1, :3])[0], atol=1e-2)


@pytest.mark.parametrize("batch_first", [True, False])
def test_lstm_along_time(batch_first):
    lstm = nn.LSTM(3, 4, num_layers=2, batch_first=batch_first, bidirectional=True)
    output, (h, c) = lstm(X)
    smoothed, (h_, c_) = run(lstm, Tokens(axis=int(batch_first)), X)
    torch.testing.assert_close(smoothed, smooth(output, [int(batch_first)]))
    assert torch.equal(h, h_)
    assert torch.equal(c, c_)


@pytest.mark.parametrize("sorted_by_length", [True, False])
def test_packed_sequences_keep_order_and_lengths(sorted_by_length):
    lengths = [7, 5, 1] if sorted_by_length else [5, 1, 7]
    sequences = [torch.randn(length, 3, generator=torch.Generator().manual_seed(length)) for length in lengths]
    packed = pack_sequence(sequences, enforce_sorted=sorted_by_length)
    lstm = nn.LSTM(3, 4)
    plain, _ = lstm(packed)
    smoothed, (h, _) = run(lstm, Tokens(class_tokens=1), packed)
    assert torch.equal(h, lstm(packed)[1][0])
    assert torch.equal(smoothed.batch_sizes, plain.batch_sizes)
    plain_padded, found = pad_packed_sequence(plain)
    smoothed_padded, found_ = pad_packed_sequence(smoothed)
    assert found.tolist() == found_.tolist() == lengths
    for i, length in enumerate(lengths):
        alone = plain_padded[:length, i]
        expected = torch.cat([alone[:1], smooth(alone[1:], [0])])
        torch.testing.assert_close(smoothed_padded[:length, i], expected)


def test_packed_sequences_pass_gradients():
    lstm = nn.LSTM(3, 4)
    packed = pack_padded_sequence(X.clone().requires_grad_(), [7, 4], batch_first=True)
    run(lstm, Tokens(), packed)[0].data.sum().backward()
    assert all(parameter.grad is not None for parameter in lstm.parameters())


Pair = namedtuple("Pair", "tokens attention")


class ModelOutput(OrderedDict):
    """As in transformers: a mapping whose entries are attributes, too."""

    def __getattr__(self, name):
        return self[name]


@pytest.mark.parametrize("pack", [lambda x: (x, x), lambda x: [x, x], lambda x: Pair(x, x), lambda x: (x,)])
def test_tuples_and_lists_keep_their_type_and_rest(pack):
    output = run(Returns(pack), Tokens(), X)
    assert type(output) is type(pack(X))
    torch.testing.assert_close(output[0], smooth(X, [1]))
    assert all(item is X for item in output[1:])


def test_model_outputs_keep_their_type_and_rest():
    made = ModelOutput(last_hidden_state=X, pooler_output=X)
    output = run(Returns(lambda _: made), Tokens(), X)
    assert type(output) is ModelOutput
    torch.testing.assert_close(output.last_hidden_state, smooth(X, [1]))
    assert output.pooler_output is X
    assert made.last_hidden_state is X  # the module may have kept it


def test_tokens_are_left_alone_once_done():
    packs = [lambda x: x, lambda x: (x, x), lambda x: pack_padded_sequence(x, [7, 4], batch_first=True)]
    for pack in packs:
        module = Returns(pack)
        with CBS(module, every=1, where={"": Tokens()}) as cbs:
            for _ in range(12):
                cbs.step()
            assert cbs.active
            output = module(X.bfloat16())  # done for bfloat16, not for the float32 that CBS assumes
        outputs = [thing[0] if isinstance(thing, tuple) else thing for thing in (output, pack(X.bfloat16()))]
        assert torch.equal(*outputs)


# Tokens: refusals


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"axis": 2}, ValueError, "axis=2"),
        ({"axis": -1}, ValueError, "axis=-1"),
        ({"class_tokens": -1}, ValueError, "class_tokens=-1"),
        ({"class_tokens": 1.0}, ValueError, r"class_tokens=1\.0"),
        ({"grid": (2,)}, ValueError, r"grid=\(2,\)"),
        ({"grid": (0, 3)}, ValueError, r"grid=\(0, 3\)"),
        ({"grid": 14}, ValueError, "grid=14"),
        ({"padding": 3}, TypeError, "padding must be .* not 3"),
    ],
)
def test_bad_tokens_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Tokens(**arguments)


def test_a_padding_argument_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="tokens of '': forward has no argument 'src_mask'"):
        CBS(Returns(), where={"": Tokens(padding="src_mask")})


@pytest.mark.parametrize(
    ("module", "tokens", "kwargs", "error", "message"),
    [
        (Returns(lambda x: {"logits": x}), Tokens(), {}, TypeError, "tokens of '': it returns a dict"),
        (Returns(lambda _: None), Tokens(), {}, TypeError, "it returns a NoneType"),
        (Returns(lambda _: ()), Tokens(), {}, TypeError, "it returns a tuple"),
        (
            Returns(lambda x: x[0]),
            Tokens(),
            {},
            ValueError,
            r"shape \(7, 3\) has no channels after the tokens on axis 1",
        ),
        (Returns(), Tokens(class_tokens=8), {}, ValueError, "fewer than 8 class tokens"),
        (Returns(), Tokens(grid=(2, 3)), {}, ValueError, r"7 tokens do not fill the grid \(2, 3\)"),
        (Returns(), Tokens(padding="mask"), {"mask": PADDING.long()}, TypeError, "not torch.int64"),
        (Returns(), Tokens(padding="mask"), {"mask": "causal"}, TypeError, "not str"),
        (Returns(), Tokens(padding="mask"), {"mask": PADDING[:, 1:]}, ValueError, r"shape \(2, 6\) .* \[2, 7\]"),
        (Returns(), Tokens(padding="mask"), {"mask": PADDING[:, None, None, 1:]}, ValueError, r"shape \(2, 6\)"),
        (Returns(), Tokens(padding="mask"), {"mask": PADDING[:, None]}, ValueError, r"shape \(2, 1, 7\)"),
        (Returns(lambda x: x.long()), Tokens(), {}, ValueError, "floating point numbers, not Long"),
    ],
)
def test_what_cannot_be_smoothed_is_refused(module, tokens, kwargs, error, message):
    with pytest.raises(error, match=message):
        run(module, tokens, X, **kwargs)


def test_a_convolution_that_returns_no_tensor_is_refused():
    class Two(nn.Conv1d):
        def forward(self, x):
            return super().forward(x), x

    model = nn.Sequential(Two(3, 4, 3))
    CBS(model)
    with pytest.raises(TypeError, match="'0' returns a tuple: say with Tokens"):
        model(X.mT)
