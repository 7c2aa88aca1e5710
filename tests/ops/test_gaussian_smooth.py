"""Values: against the float64 reference, over shapes, layouts, dtypes, axes and kernel sizes."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lerac_fast
from lerac_fast import gaussian_smooth, gaussian_smooth_
from tests.determinism import assert_same_for_any_number_of_threads, assert_same_on_all_instruction_sets
from tests.reference import gaussian_smooth as reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))

# What rounding can do, of the largest input. The weights of an axis sum to 1, so each of them adds a few roundings of
# the arithmetic's type; two axes at a time, 16-bit results are rounded at the store.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 4e-15, torch.bfloat16: 2 * 2**-9, torch.float16: 2 * 2**-12}

# [N, C, *spatial]: maps of one element, narrower than the kernel, of ResNets, with odd channels, long and short rows,
# and enough planes or rows for several threads.
SHAPES = [
    (1, 1, 1, 1),
    (3, 2, 1, 7),
    (1, 40, 1, 300),  # one row, longer than a block of the CPU's kernels, of pixels that fill vectors
    (3, 2, 7, 1),
    (2, 3, 8, 8),
    (33, 5, 4, 4),
    (5, 40, 7, 7),
    (2, 64, 14, 14),
    (1, 3, 129, 131),
    (1, 1, 300, 260),
    (1, 1, 90_000, 3),
    (3, 70, 5, 17),
    (1, 48, 40, 40),
    (2, 3, 9),
    (2, 20, 301),
    (2, 3, 5, 6, 7),
    (1, 33, 3, 4, 40),
]


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def channels_last(x: Tensor) -> Tensor:
    """The same values, with channels innermost in memory."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


LAYOUTS = {"contiguous": Tensor.contiguous, "channels_last": channels_last}
all_layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def assert_smoothed(result: Tensor, x: Tensor, sigma: float, kernel_size: int, dims: list[int]) -> None:
    expected = reference.gaussian_smooth(x, sigma, kernel_size, dims)
    tolerance = TOLERANCE[x.dtype] * max(1, len(dims) - 1) * x.double().abs().max().item()
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)


@all_dtypes
@all_layouts
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 11])
def test_values_and_layout(shape, kernel_size, layout, dtype) -> None:
    x = layout(random(shape, dtype))
    before = x.clone()
    result = gaussian_smooth(x, 0.8, kernel_size)
    assert_smoothed(result, x, 0.8, kernel_size, list(range(2, x.ndim)))
    assert result.dtype == dtype
    assert result.stride() == x.stride()
    assert torch.equal(x, before)

    address = x.data_ptr()
    assert gaussian_smooth_(x, 0.8, kernel_size) is x
    assert x.data_ptr() == address
    assert torch.equal(x, result), "the same bits in place"


@all_dtypes
@all_layouts
@pytest.mark.parametrize("dims", [(1,), (0, 2), (3, 1), (-1,), (0, 1, 2, 3), (2,)], ids=str)
def test_any_axes(dims, layout, dtype) -> None:
    x = layout(random((3, 34, 6, 50), dtype))
    result = gaussian_smooth(x, 1.3, 5, dims)
    assert_smoothed(result, x, 1.3, 5, list(dims))
    assert torch.equal(gaussian_smooth_(x, 1.3, 5, dims), result)


@st.composite
def strided_tensors(draw) -> tuple[Tensor, list[int]]:
    """Views with any order of axes, gaps, and broken runs, and some of their axes."""
    ndim = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(0, 7), min_size=ndim, max_size=ndim))
    for long in draw(st.sets(st.integers(0, ndim - 1), max_size=2)):  # more would take long in the reference
        sizes[long] = 33
    steps = draw(st.lists(st.sampled_from([1, 1, 2]), min_size=ndim, max_size=ndim))
    dtype = draw(st.sampled_from(DTYPES))
    base = random(tuple(size * step for size, step in zip(sizes, steps, strict=True)), dtype)
    x = base[tuple(slice(None, None, step) for step in steps)].permute(draw(st.permutations(range(ndim))))
    dims = draw(st.lists(st.integers(0, ndim - 1), min_size=1, max_size=ndim, unique=True))
    return x, dims


@settings(max_examples=300)
@given(strided_tensors(), st.sampled_from([1, 3, 5, 7]), st.just(0.0) | st.floats(0.05, 4))
def test_strided_tensors(case, kernel_size, sigma) -> None:
    x, dims = case
    result = gaussian_smooth(x, sigma, kernel_size, dims)
    if x.numel():
        assert_smoothed(result, x, sigma, kernel_size, dims)
    assert result.shape == x.shape
    assert result.stride() == torch.empty_like(x).stride()
    assert torch.equal(gaussian_smooth_(x, sigma, kernel_size, dims), result)


def test_is_depthwise_convolution() -> None:
    """What the authors compute: every channel with the outer product of the weights, no bias, zero padding."""
    x = random((2, 6, 13, 12), torch.float64)
    row = torch.tensor(reference.weights(1.0, 5), dtype=torch.float64)
    kernel = torch.outer(row, row).expand(6, 1, 5, 5)
    torch.testing.assert_close(gaussian_smooth(x, 1.0, 5), F.conv2d(x, kernel, padding=2, groups=6))


def test_views_change_in_place_and_their_surroundings_do_not() -> None:
    tokens = random((4, 9, 40), torch.float32)
    expected = tokens.clone()
    expected[:, 1:] = gaussian_smooth(tokens[:, 1:].contiguous(), 0.9, 3, 1)
    gaussian_smooth_(tokens[:, 1:], 0.9, 3, 1)
    assert torch.equal(tokens, expected)


@all_dtypes
@all_layouts
def test_sigma_from_nothing_to_everything(layout, dtype) -> None:
    x = layout(random((2, 40, 6, 6), dtype))
    assert torch.equal(gaussian_smooth(x, 0.0), x)
    assert torch.equal(gaussian_smooth(x, 1e-200), x)
    mean = F.avg_pool2d(x.double(), 3, stride=1, padding=1)
    torch.testing.assert_close(gaussian_smooth(x, math.inf).double(), mean, rtol=0, atol=4 * TOLERANCE[dtype])
    # Just above nothing: weights that no longer change a number, though they are not zero.
    assert torch.equal(gaussian_smooth(x.float(), 0.11), x.float())


@all_dtypes
@all_layouts
def test_sigma_may_be_a_tensor_or_an_integer(layout, dtype) -> None:
    x = layout(random((2, 40, 6, 6), dtype))
    for sigma in (1, torch.tensor(1.0), torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(1.0, dtype=torch.double)):
        assert torch.equal(gaussian_smooth(x, sigma), gaussian_smooth(x, 1.0))


@all_dtypes
@all_layouts
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (2, 40, 5, 5), (2, 3, 6, 200)], ids=str)
def test_what_is_not_finite_stays_among_its_neighbours(shape, value, layout, dtype) -> None:
    """0 x NaN is NaN: borders must not be multiplied away, or a NaN would leak to the next row, plane or channel."""
    for place in itertools.product(*[(0, size - 1) for size in shape]):
        x = random(shape, dtype)
        x[place] = value
        n, c, h, w = place
        result = gaussian_smooth(layout(x), 0.8)
        touched = torch.zeros(shape, dtype=torch.bool)
        touched[n, c, max(h - 1, 0) : h + 2, max(w - 1, 0) : w + 2] = True
        assert torch.equal(~result.isfinite(), touched)
        assert torch.equal(gaussian_smooth_(layout(x), 0.8).isfinite(), ~touched)


@all_layouts
@pytest.mark.parametrize("channels", [1, 7, 8, 40, 96])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_number_survives(dtype, channels, layout) -> None:
    """With weights of 1 and (almost) nothing, and zeros around it, a number is converted there and back."""
    everything = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    x = torch.zeros(2 * math.ceil(2**16 / channels / 7), channels, 3, 15, dtype=dtype)
    planes = x[:, :, 1, 1::2].movedim(1, -1).reshape(-1)
    planes[: 2**16] = everything
    x[:, :, 1, 1::2] = planes.view(x.size(0), 7, channels).movedim(-1, 1)
    result = gaussian_smooth(layout(x), 0.12)[:, :, 1, 1::2].movedim(1, -1).reshape(-1)[: 2**16]
    # Infinities and NaN reach over to the next column but one through nothing; leave their neighbours out.
    finite = everything.isfinite()
    assert torch.equal(result[finite], everything[finite] + 0)  # -0 + 0 is 0
    assert not result[~finite].isfinite().any()


@all_dtypes
@all_layouts
def test_weights_that_vanish_do_not_multiply(layout, dtype) -> None:
    """In the arithmetic's type, whatever the size of the kernel."""
    x = random((2, 40, 9, 9), dtype)
    x[0, 0, 4, 4] = math.inf
    assert torch.equal(gaussian_smooth(layout(x), 0.02, 5), x)
    result = gaussian_smooth(layout(x), 0.1 if dtype == torch.float64 else 0.3, 2_000_001)  # reaches a few neighbours
    assert result.isfinite().sum() > x.numel() - 100


def test_kernels_larger_than_the_map() -> None:
    x = random((1, 2, 4, 5), torch.float64)
    assert_smoothed(gaussian_smooth(x, 3.0, 31), x, 3.0, 31, [2, 3])
    assert_smoothed(gaussian_smooth(x[..., :1, :1], 3.0, 31), x[..., :1, :1], 3.0, 31, [2, 3])


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0), (0, 0, 0)], ids=str)
@all_layouts
def test_nothing(shape, layout) -> None:
    x = layout(torch.empty(shape))
    assert gaussian_smooth(x, 1.0).shape == shape
    assert gaussian_smooth_(x, 1.0).shape == shape


def sample() -> list[Tensor]:
    """Every path of the kernels, with enough elements for several threads."""
    shapes = [(3, 5, 130, 131), (4, 64, 33, 20), (1, 48, 60, 70), (129, 40, 4, 4), (2, 9, 5, 40, 41), (2, 300, 70)]
    results = []
    for shape, dtype, layout, kernel_size in itertools.product(shapes, DTYPES, LAYOUTS.values(), (3, 5)):
        x = layout(random(shape, dtype))
        results += [gaussian_smooth(x, 0.9, kernel_size), gaussian_smooth_(x, 0.9, kernel_size)]
    return results


def test_thread_count() -> None:
    assert_same_for_any_number_of_threads(sample)


def test_instruction_sets() -> None:
    assert_same_on_all_instruction_sets("m.sample()", "tests.ops.test_gaussian_smooth")


BAD = [
    ({"sigma": -0.5}, "sigma must be 0 or more, not -0.5"),
    ({"sigma": math.nan}, "sigma must be 0 or more, not nan"),
    ({"sigma": torch.tensor(-2.0)}, "sigma must be 0 or more, not -2"),
    ({"sigma": torch.ones(2)}, "sigma must be a number or a floating point tensor without dimensions, not .* 1 dim"),
    ({"sigma": torch.tensor(1)}, "sigma must be a number or a floating point tensor .* not Long"),
    ({"sigma": torch.ones((), requires_grad=True)}, "sigma requires a gradient"),
    ({"kernel_size": 4}, "kernel_size must be odd and positive, not 4"),
    ({"kernel_size": 0}, "kernel_size must be odd and positive, not 0"),
    ({"kernel_size": -3}, "kernel_size must be odd and positive, not -3"),
    ({"dims": [4]}, "names axis 4, which a tensor of 4 dimensions does not have"),
    ({"dims": -5}, "names axis -5, which a tensor of 4 dimensions does not have"),
    ({"dims": [2, -2]}, "names axis -2 twice"),
    ({"dims": []}, "dims is empty"),
    ({"x": torch.ones(2, 3)}, r"the shape \(2, 3\), no axis after batch and channels"),
    ({"x": torch.ones(2, 3, 4, 4, dtype=torch.int64)}, "floating point numbers, not Long"),
    ({"x": torch.ones(2, 3, 4, 4, dtype=torch.complex64)}, "floating point numbers, not ComplexFloat"),
    ({"x": torch.ones(2, 3, 4, 4, dtype=torch.bool)}, "floating point numbers, not Bool"),
    ({"x": torch.ones(2, 3, 4, 4).to_sparse()}, "layout Sparse"),
    ({"x": torch.ones(2, 3, 4, 4, dtype=torch.float8_e5m2)}, "may be float32, float64, bfloat16 or float16"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message[:40] for _, message in BAD])
@pytest.mark.parametrize("op", [gaussian_smooth, gaussian_smooth_])
def test_bad_input(op, arguments, message) -> None:
    """Refused, with the value named and nothing changed."""
    arguments = {"x": random((2, 3, 4, 4), torch.float32), "sigma": 1.0} | arguments
    x = arguments["x"]
    before = x.clone()
    with pytest.raises(ValueError, match=message):
        op(**arguments)
    if not x.is_sparse:
        assert torch.equal(x.view(torch.uint8), before.view(torch.uint8))


@pytest.mark.parametrize("op", [gaussian_smooth, gaussian_smooth_])
def test_bad_input_without_data(op) -> None:
    """What needs no data to be seen is refused when a graph is traced."""
    x = torch.empty(2, 3, 4, 4, device="meta")
    with pytest.raises(ValueError, match="kernel_size must be odd and positive, not 4"):
        op(x, 1.0, 4)
    with pytest.raises(ValueError, match="names axis 4"):
        op(x, 1.0, dims=[4])


@pytest.mark.parametrize("arguments", [{"sigma": "wide"}, {"kernel_size": 3.5}, {"x": [1.0]}], ids=str)
def test_wrong_kinds(arguments) -> None:
    with pytest.raises((TypeError, RuntimeError, AttributeError)):
        gaussian_smooth(**{"x": torch.ones(1, 1, 4), "sigma": 1.0, "dims": 2} | arguments)


def test_module() -> None:
    x = random((2, 3, 8, 8), torch.float32)
    module = lerac_fast.GaussianSmooth(0.7, kernel_size=5)
    assert torch.equal(module(x), gaussian_smooth(x, 0.7, 5))
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    assert repr(module) == "GaussianSmooth(sigma=0.7, kernel_size=5)"
    module.sigma = 0.0
    assert torch.equal(module(x), x)
    assert repr(lerac_fast.GaussianSmooth(torch.tensor(0.5), dims=1)) == (
        "GaussianSmooth(sigma=0.5, kernel_size=3, dims=1)"
    )
    with pytest.raises(ValueError, match="not -1"):
        lerac_fast.GaussianSmooth(-1.0)
    with pytest.raises(ValueError, match="not 2"):
        lerac_fast.GaussianSmooth(1.0, kernel_size=2)
