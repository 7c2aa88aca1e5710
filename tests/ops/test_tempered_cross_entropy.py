"""Values and derivatives against the float64 reference and torch's cross entropy."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from lerac_fast import tempered_cross_entropy
from tests.determinism import assert_same_for_any_number_of_threads, assert_same_on_all_instruction_sets
from tests.reference.tempered_cross_entropy import tempered_cross_entropy as reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
# Relative to the largest value: the arithmetic is in float32, or float64, and results are rounded to the dtype once.
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-13, torch.bfloat16: 2**-8, torch.float16: 2**-10}

OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0, "reduction": "none"},
    {"ignore_index": 2},
    {"weight": True},
    {"weight": True, "ignore_index": 1, "label_smoothing": 0.3},
]
all_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def batch(rows: int, classes: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[:1] = 0  # which is ignored in no case here
    sigma = torch.empty(rows, dtype=torch.float64).log_normal_(0, 1, generator=generator)
    return logits, targets, sigma.to(torch.float64 if dtype == torch.float64 else torch.float32)


def with_weight(options: dict, classes: int) -> dict:
    weight = torch.linspace(0.5, 2.0, classes)
    return {k: weight if k == "weight" else v for k, v in options.items()}


def assert_near(result: Tensor, expected: Tensor, dtype: torch.dtype, floor: float = 1e-30) -> None:
    atol = TOLERANCE[dtype] * max(floor, expected.abs().max().item())
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=atol)


def check(logits: Tensor, targets: Tensor, sigma: Tensor, **options) -> None:
    """Loss and both gradients, for an uneven gradient of the loss."""
    dtype = logits.dtype
    logits, sigma = logits.detach().requires_grad_(), sigma.detach().requires_grad_()
    loss = tempered_cross_entropy(logits, targets, sigma, **options)
    exact_logits, exact_sigma = (x.detach().double().requires_grad_() for x in (logits, sigma))
    expected = reference(exact_logits, targets, exact_sigma, **options)
    assert loss.dtype == torch.promote_types(dtype, sigma.dtype)
    # The loss of a sure answer is the logarithm of a little more than 1, as torch's is.
    assert_near(loss, expected, torch.float32 if dtype.itemsize == 2 else dtype, floor=0.1)
    upstream = torch.linspace(0.5, 1.5, loss.numel()).view(loss.shape).to(loss.dtype)
    gradients = torch.autograd.grad(loss, (logits, sigma), upstream)
    exact = torch.autograd.grad(expected, (exact_logits, exact_sigma), upstream.double())
    assert gradients[0].dtype == dtype
    assert gradients[0].stride() == torch.empty_like(logits).stride()
    assert_near(gradients[0], exact[0], dtype, floor=1 / len(targets))  # the difference of two probabilities
    # Of a sure answer the reference's is the difference of two probabilities, times z / sigma^2: in float64 its error
    # is that of a probability, where ours is none.
    floor = 1e-3
    if dtype == torch.float64:
        rounding = torch.finfo(dtype).eps / TOLERANCE[dtype]
        floor = max(floor, rounding * (exact_logits.abs().amax() / exact_sigma.min() ** 2).item())
    assert_near(gradients[1], exact[1], torch.float32 if dtype.itemsize == 2 else dtype, floor=floor)


@all_dtypes
@all_options
@pytest.mark.parametrize(("rows", "classes"), [(64, 10), (7, 1000), (33, 16), (5, 17), (3, 3), (2000, 40)])
def test_against_reference(rows, classes, options, dtype) -> None:
    check(*batch(rows, classes, dtype), **with_weight(options, classes))


@all_dtypes
@all_options
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_more_dimensions(layout, options, dtype) -> None:
    logits, targets, sigma = batch(4 * 5 * 6, 19, dtype)
    logits = logits.view(4, 5, 6, 19).movedim(-1, 1).contiguous(memory_format=layout)
    check(logits, targets.view(4, 5, 6), sigma.view(4, 5, 6), **with_weight(options, 19))


@settings(max_examples=200)
@given(
    rows=st.integers(0, 9),
    classes=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    log10_sigma=st.floats(-3, 3),
    smoothing=st.just(0.0) | st.floats(0, 1),
    reduction=st.sampled_from(["sum", "none"]),
)
@example(rows=1, classes=2, dtype=torch.float64, seed=1, log10_sigma=-1.0, smoothing=0.0, reduction="sum")
def test_properties(rows, classes, dtype, seed, log10_sigma, smoothing, reduction) -> None:
    logits, targets, sigma = batch(rows, classes, dtype, seed)
    if rows == 0:
        assert tempered_cross_entropy(logits, targets, sigma, reduction=reduction).sum() == 0
        return
    sigma = torch.full_like(sigma, 10**log10_sigma)
    check(logits, targets, sigma, reduction=reduction, label_smoothing=smoothing)


def test_is_torchs_cross_entropy_at_one() -> None:
    logits, targets, _ = batch(50, 100, torch.float64)
    targets[::7] = -100
    for options in ({}, {"reduction": "none"}, {"label_smoothing": 0.2}, {"weight": torch.rand(100).double()}):
        expected = F.cross_entropy(logits, targets, **options)
        torch.testing.assert_close(tempered_cross_entropy(logits, targets, 1.0, **options), expected)


def test_gradient_of_sigma_is_the_papers() -> None:
    """Eq. 4: (1 - p_y) (z_y - sum_{j != y} q_j z_j) / sigma^2, with q the probabilities without y."""
    logits, targets, sigma = batch(20, 12, torch.float64)
    sigma.requires_grad_()
    tempered_cross_entropy(logits, targets, sigma, reduction="sum").backward()
    p = torch.softmax(logits / sigma.detach()[:, None], 1)
    at = torch.arange(20), targets
    q = p / (1 - p[at])[:, None]
    q[at] = 0
    expected = (1 - p[at]) * (logits[at] - (q * logits).sum(1)) / sigma.detach() ** 2
    torch.testing.assert_close(sigma.grad, expected)


@pytest.mark.parametrize("sigma", [1e-3, 1e3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_extreme_temperatures_are_stable(sigma, scale) -> None:
    logits, targets, _ = batch(64, 30, torch.float32)
    check(logits * scale, targets, torch.full((64,), sigma), reduction="none")
    # A certain answer: 0/0 in the form that the paper prints.
    sure = torch.zeros(1, 5).index_fill(1, torch.tensor([2]), 300.0)
    check(sure, torch.tensor([2]), torch.tensor([sigma]))


def test_impossible_classes() -> None:
    """Logits of -inf, as masks make them, are classes of probability 0."""
    logits, targets, sigma = batch(8, 20, torch.float32)
    logits[:, 5:9] = -math.inf
    targets = torch.where((targets >= 5) & (targets < 9), 0, targets)
    logits.requires_grad_()
    sigma.requires_grad_()
    loss = tempered_cross_entropy(logits, targets, sigma)
    kept = [*range(5), *range(9, 20)]
    places = torch.tensor([kept.index(int(t)) for t in targets])
    torch.testing.assert_close(loss, tempered_cross_entropy(logits[:, kept], places, sigma))
    loss.backward()
    assert torch.equal(logits.grad[:, 5:9], torch.zeros(8, 4))
    assert logits.grad.isfinite().all()
    assert sigma.grad.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_shows(value) -> None:
    logits, targets, sigma = batch(4, 20, torch.float32)
    logits[2, 7] = value
    assert tempered_cross_entropy(logits, targets, sigma, reduction="none").isnan().tolist() == [0, 0, 1, 0]


def test_all_ignored_is_torchs_nan() -> None:
    logits, targets, sigma = batch(4, 3, torch.float32)
    assert tempered_cross_entropy(logits, targets * 0, sigma, ignore_index=0).isnan()
    assert tempered_cross_entropy(logits, targets * 0, sigma, ignore_index=0, reduction="sum") == 0
    inputs = logits.requires_grad_(), sigma.requires_grad_()
    loss = tempered_cross_entropy(*inputs[:1], targets * 0, sigma, ignore_index=0)
    for gradient in torch.autograd.grad(loss, inputs):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_graphs_of_the_backward_pass_have_its_values() -> None:
    """Where classes cannot be, where rows are ignored, and where all logits are large."""
    logits, targets, sigma = batch(8, 20, torch.float32)
    logits += 1e4
    logits[:, 5:9] = -math.inf
    targets = torch.where((targets >= 5) & (targets < 9), 0, targets)
    targets[3] = -100
    logits[3] = math.nan
    inputs = logits.requires_grad_(), sigma.requires_grad_()
    loss = tempered_cross_entropy(*inputs[:1], targets, sigma)
    plain = torch.autograd.grad(loss, inputs, retain_graph=True)
    with_graph = torch.autograd.grad(loss, inputs, create_graph=True)
    for ours, theirs in zip(with_graph, plain, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.detach(), theirs)


def test_broadcast_sigma() -> None:
    logits, targets, _ = batch(12, 5, torch.float64)
    logits, targets = logits.view(3, 4, 5).movedim(-1, 1), targets.view(3, 4)
    for shape in ((), (1,), (4,), (3, 1), (3, 4)):
        sigma = torch.rand(shape, dtype=torch.float64).add(0.5).requires_grad_()
        loss = tempered_cross_entropy(logits, targets, sigma)
        torch.testing.assert_close(loss, reference(logits, targets, sigma.expand(3, 4)))
        assert torch.autograd.grad(loss, sigma)[0].shape == shape
    single = tempered_cross_entropy(logits[0, :, 0], targets[0, 0], 2.0)
    torch.testing.assert_close(single, F.cross_entropy(logits[0, :, 0] / 2, targets[0, 0]))


@all_options
def test_derivatives(options) -> None:
    logits, targets, sigma = batch(6, 5, torch.float64)
    options = with_weight(options, 5)
    inputs = logits.requires_grad_(), sigma.requires_grad_()
    assert gradcheck(lambda z, s: tempered_cross_entropy(z, targets, s, **options), inputs)
    assert gradgradcheck(lambda z, s: tempered_cross_entropy(z, targets, s, **options), inputs)


def test_gradients_only_where_asked() -> None:
    logits, targets, sigma = batch(6, 5, torch.float32)
    loss = tempered_cross_entropy(logits.requires_grad_(), targets, sigma)
    loss.backward()
    assert sigma.grad is None
    with torch.no_grad():
        assert not tempered_cross_entropy(logits, targets, sigma).requires_grad
    with torch.inference_mode():
        assert torch.equal(tempered_cross_entropy(logits.detach(), targets, sigma), loss)


def sample() -> list[Tensor]:
    results = []
    for dtype in DTYPES:
        for rows, classes in ((70, 1000), (5000, 10), (3, 33)):
            logits, targets, sigma = batch(rows, classes, dtype)
            logits.requires_grad_()
            sigma.requires_grad_()
            loss = tempered_cross_entropy(logits, targets, sigma, label_smoothing=0.1)
            results += [loss.detach(), *torch.autograd.grad(loss, (logits, sigma))]
    return results


def test_thread_count() -> None:
    assert_same_for_any_number_of_threads(sample)


def test_instruction_sets() -> None:
    assert_same_on_all_instruction_sets("m.sample()", "tests.ops.test_tempered_cross_entropy")


BAD = [
    ({"targets": torch.tensor([0, 5])}, "target 5 of row 1 is not one of 5 classes"),
    ({"targets": torch.tensor([-1, 0])}, "target -1 of row 0"),
    ({"targets": torch.tensor([0.0, 1.0])}, "class indices, of dtype int64, not Float"),
    ({"targets": torch.tensor([0])}, r"targets of shape \[1\] do not match logits of shape \[2, 5\]"),
    ({"sigma": torch.tensor([1.0, 0.0])}, "sigma 0 of row 1 is not positive"),
    ({"sigma": -2.0}, "sigma -2 of row 0 is not positive"),
    ({"sigma": math.nan}, "sigma nan of row 0 is not positive"),
    ({"sigma": math.inf}, "sigma inf of row 0 is not positive and finite"),
    ({"sigma": 1e-39}, "sigma .* of row 0 is not positive and finite, with a finite inverse"),
    ({"sigma": torch.ones(3)}, r"sigma of shape \[3\] does not broadcast to the targets' shape \[2\]"),
    ({"sigma": torch.ones(2), "targets": torch.tensor([0, 1, 2])}, r"targets of shape \[3\] do not match"),
    ({"logits": torch.ones(2, 5, dtype=torch.int64)}, "floating point numbers .* not Long"),
    ({"logits": torch.ones(())}, "floating point numbers .* shape"),
    ({"weight": torch.ones(4)}, r"for each of 5 classes, not Float of shape \[4\]"),
    ({"label_smoothing": 1.5}, "label_smoothing must be between 0 and 1, not 1.5"),
    ({"reduction": "max"}, "must be 'mean', 'sum' or 'none', not 'max'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input(arguments, message) -> None:
    arguments = {"logits": torch.ones(2, 5), "targets": torch.tensor([0, 4]), "sigma": 1.0} | arguments
    with pytest.raises(ValueError, match=message):
        tempered_cross_entropy(**arguments)


def test_what_does_not_count_is_not_checked() -> None:
    sigma = torch.tensor([1.0, math.nan])
    assert tempered_cross_entropy(torch.ones(2, 5), torch.tensor([0, -100]), sigma).isfinite()


def test_a_number_is_as_exact_as_the_logits() -> None:
    logits, targets, _ = batch(9, 5, torch.float64)
    expected = F.cross_entropy(logits / 0.1, targets)
    torch.testing.assert_close(tempered_cross_entropy(logits, targets, 0.1), expected, rtol=1e-14, atol=0)


# opcheck's own test warns so.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@pytest.mark.compiles
@all_dtypes
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_opcheck(reduction, dtype) -> None:
    logits, targets, sigma = batch(6, 21, dtype)
    arguments = (logits.requires_grad_(), targets, sigma.requires_grad_(), None, reduction, 0.1, -100)
    opcheck(torch.ops.lerac_fast._tempered_cross_entropy.default, arguments)
    opcheck(torch.ops.lerac_fast.tempered_cross_entropy.default, arguments)


@pytest.mark.compiles
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_whole(backend) -> None:
    torch._dynamo.reset()
    logits, targets, sigma = batch(6, 21, torch.float32)
    inputs = logits.requires_grad_(), sigma.requires_grad_()

    def function(logits: Tensor, sigma: Tensor) -> Tensor:
        return tempered_cross_entropy(logits * 2, targets, sigma.exp(), label_smoothing=0.1)

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    expected, result = function(*inputs), compiled(*inputs)
    torch.testing.assert_close(result, expected)
    for ours, other in zip(torch.autograd.grad(result, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype) -> None:
    """Logits in the lower precision are taken as they are; the loss is float32, as torch's is."""
    linear = torch.nn.Linear(8, 5)
    with torch.autocast("cpu", dtype):
        logits = linear(torch.randn(4, 8))
        loss = tempered_cross_entropy(logits, torch.tensor([0, 1, 2, 3]), torch.ones(4))
    assert (logits.dtype, loss.dtype) == (dtype, torch.float32)
    loss.backward()
    assert linear.weight.grad.dtype == torch.float32
