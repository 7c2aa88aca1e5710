"""CBS by itself: schedule against reference, what it does to a model, its state and its refusals."""

import io
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from lerac_fast.cbs.cbs import CBS, is_identity, neighbour_weight, retirement_step, smoothing_sigma
from tests.cbs.smoothing import KINDS, hooks, images, network, smoothing_calls, step
from tests.reference import cbs as reference
from tests.reference.gaussian_smooth import weights

reproducible = settings(derandomize=True)

HALF_ULP = {
    dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}


# The schedule


@reproducible
@given(st.floats(0.0, 10.0), st.floats(0.01, 1.0), st.integers(1, 9), st.integers(1, 80))
def test_sigma_matches_the_reference(sigma, decay, every, steps):
    table = [smoothing_sigma(step, sigma, decay, every) for step in range(steps)]
    assert table == pytest.approx(reference.sigma_table(sigma, decay, every, steps), rel=1e-12, abs=1e-300)


@reproducible
@given(st.floats(0.03, 50.0), st.sampled_from([3, 5, 7, 31]))
def test_neighbour_weight_matches_the_reference(sigma, kernel_size):
    expected = weights(sigma, kernel_size)[kernel_size // 2 + 1]
    assert neighbour_weight(sigma, kernel_size) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("sigma", [0.0, 5e-324, 1e-200, 1e-3])
def test_a_vanishing_sigma_gives_the_neighbours_nothing(sigma):
    assert neighbour_weight(sigma, 5) == 0.0


def test_a_wide_gaussian_is_a_box():
    assert neighbour_weight(1e200, 3) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("dtype", "every", "expected"),
    [
        (torch.float32, 2, 34),
        (torch.float32, 5, 85),
        (torch.float64, 2, 42),
        (torch.float64, 5, 105),
        (torch.float16, 5, 65),
        (torch.bfloat16, 5, 60),
    ],
)
def test_retires_at_the_epoch_of_the_paper_s_schedule(dtype, every, expected):
    assert reference.retirement_step(1.0, 0.9, every, 3, HALF_ULP[dtype]) == expected
    assert retirement_step(1.0, 0.9, every, 3, dtype) == expected
    cbs = CBS(nn.Conv2d(1, 1, 3, dtype=dtype), 1.0, 0.9, every)
    active = []
    while cbs.active:
        active.append(cbs.steps)
        cbs.step()
    assert active == list(range(expected))
    assert cbs.retires_at == cbs.steps == expected


@reproducible
@given(
    sigma=st.floats(0.2, 5.0),
    decay=st.floats(0.3, 0.99),
    every=st.integers(1, 5),
    kernel_size=st.sampled_from([3, 5, 9]),
    dtype=st.sampled_from(list(HALF_ULP)),
)
def test_retirement_matches_the_reference(sigma, decay, every, kernel_size, dtype):
    step = retirement_step(sigma, decay, every, kernel_size, dtype)
    assert step == reference.retirement_step(sigma, decay, every, kernel_size, HALF_ULP[dtype])
    assert is_identity(smoothing_sigma(step, sigma, decay, every), kernel_size, dtype)
    assume(step > 0)
    assert not is_identity(smoothing_sigma(step - 1, sigma, decay, every), kernel_size, dtype)


def test_huge_kernels_are_schedules_like_others():
    """Whose weights are not added up one by one."""
    for kernel_size in (10**7 + 1, 10**15 + 1):
        assert neighbour_weight(1e300, kernel_size) == pytest.approx(1 / kernel_size)
        assert neighbour_weight(1e5, kernel_size) == pytest.approx(1 / (1e5 * math.sqrt(2 * math.pi)))
        cbs = CBS(nn.Conv2d(1, 1, 3), 1e5, 0.5, kernel_size=kernel_size)
        assert cbs.retires_at == retirement_step(1e5, 0.5, 5, 3, torch.float32)
        cbs.step()
        cbs.remove()


def test_retirement_of_extreme_schedules():
    assert retirement_step(1.0, 1.0, 5, 3, torch.float32) is None
    assert retirement_step(0.1, 1.0, 5, 3, torch.float32) == 0
    assert retirement_step(0.0, 0.9, 5, 3, torch.float32) == 0
    assert retirement_step(1.0, 0.9, 5, 1, torch.float32) == 0
    assert retirement_step(1.0, 1e-300, 5, 3, torch.float32) == 5
    slow = retirement_step(1.0, 1 - 1e-9, 1, 3, torch.float32)
    threshold = 1 / math.sqrt(2 * 24 * math.log(2))  # exp(-1 / (2 sigma^2)) = 2^-24
    assert slow == pytest.approx(math.log(threshold) / math.log(1 - 1e-9), rel=1e-6)


# What it does to a model


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_smooths_behind_every_wide_convolution(axes, kernel_size):
    model, x = network(axes).double(), images(axes).double()
    expected = reference.smoothed(network(axes).double(), 0.9**3, axes, kernel_size)
    cbs = CBS(model, every=1, kernel_size=kernel_size)
    step(cbs, 3)
    for mode in (True, False):  # in evaluation, too
        outputs, gradients = [], []
        for net in (model, expected):
            net.train(mode).zero_grad()
            outputs.append(net(x))
            outputs[-1].square().sum().backward()
            gradients.append([parameter.grad for parameter in net.parameters()])
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*gradients)


def test_keeps_the_memory_format():
    model, x = network().to(memory_format=torch.channels_last), images().to(memory_format=torch.channels_last)
    CBS(model)
    output = model(x)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, reference.smoothed(network(), 1.0, 2)(x))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_takes_unbatched_maps(axes):
    conv, x = KINDS[axes][0](3, 4, 3), images(axes)
    CBS(conv)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(conv(x[0]), conv(x)[0])
    conv(x[0]).sum().backward()


def test_takes_lazy_convolutions():
    lazy, conv = nn.LazyConv2d(4, 3), nn.Conv2d(3, 4, 3)
    CBS(lazy)
    lazy(images())
    lazy.load_state_dict(conv.state_dict())
    assert CBS(conv).retires_at == 85
    assert torch.equal(lazy(images()), conv(images()))


def test_the_model_stays_as_it_is():
    model = network()
    before = [name for name, _ in model.named_modules()], [name for name, _ in model.named_buffers()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cbs = CBS(model)
    assert ([name for name, _ in model.named_modules()], [name for name, _ in model.named_buffers()]) == before
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert hooks(model) == len(cbs.sites) == 2


def test_retired_is_as_if_never_attached():
    model, plain = network(), network()
    cbs = CBS(model, every=2)
    assert cbs.retires_at == 34
    step(cbs, 33)
    assert cbs.active
    assert smoothing_calls(lambda: model(images())) == ["gaussian_smooth_"] * 2
    cbs.step()
    assert not cbs.active
    assert hooks(model) == 0
    model.load_state_dict(plain.state_dict())  # the running statistics
    assert torch.equal(model(images()), plain(images()))
    step(cbs, 3)
    assert cbs.sigma == pytest.approx(0.9**18)


@pytest.mark.parametrize("arguments", [{"sigma": 0}, {"sigma": 0.0, "decay": 1.0}, {"kernel_size": 1}, {"sigma": 0.1}])
def test_without_effect_it_retires_from_the_start(arguments):
    model = network()
    cbs = CBS(model, **arguments)
    assert (cbs.retires_at, cbs.active, hooks(model), len(cbs.sites)) == (0, False, 0, 2)


def test_without_decay_it_never_retires():
    cbs = CBS(network(), decay=1)
    step(cbs, 1000)
    assert (cbs.retires_at, cbs.active, cbs.sigma) == (None, True, 1.0)


def test_coarse_maps_are_done_earlier():
    # Parameters in float32, maps in bfloat16: from step 60 on nothing is left to do for them.
    model, plain = network(), network()
    cbs = CBS(model)

    def autocast():
        with torch.autocast("cpu", torch.bfloat16):
            return model(images())

    step(cbs, 59)
    assert len(smoothing_calls(autocast)) == 2
    cbs.step()
    assert cbs.active
    assert len(smoothing_calls(autocast)) == 0
    assert len(smoothing_calls(lambda: model(images()))) == 2
    model.load_state_dict(plain.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(images()), plain(images()))


def test_the_finest_parameters_set_the_retirement():
    assert CBS(nn.Sequential(nn.Conv2d(1, 1, 3).bfloat16(), nn.Conv2d(1, 1, 3).double())).retires_at == 105
    assert CBS(network().bfloat16()).retires_at == 60


def test_remove_and_the_end_of_a_block_detach_for_good():
    model, plain = network(), network()
    with CBS(model) as cbs:
        assert hooks(model) == 2
        state = cbs.state_dict()
    for _ in range(2):
        assert (hooks(model), cbs.active) == (0, False)
        assert torch.equal(model(images()), plain(images()))
        cbs.remove()
        cbs.step()
        cbs.load_state_dict(state)


def test_hooks_of_others_stay():
    model = network()
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append("first"))
    cbs = CBS(model)
    model[0].register_forward_hook(lambda *_: seen.append("last"))
    model(images())
    cbs.remove()
    model(images())
    assert seen == ["first", "last"] * 2


# Steps between forward and backward


def test_backward_after_a_changed_width_is_refused():
    model = network()
    cbs = CBS(model, every=2)
    loss = model(images()).sum()
    cbs.step()  # the width stays
    loss.backward(retain_graph=True)
    cbs.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# Checkpoints


@pytest.mark.parametrize("stop", [0, 3, 16, 17, 20])
def test_resumes_to_the_bit(stop):
    def outputs(model, cbs, count):
        found = []
        for _ in range(count):
            found.append(model(images()))
            cbs.step()
        return found

    model = network()
    cbs = CBS(model, every=1)
    straight_through = outputs(model, cbs, 22)

    model = network()
    cbs = CBS(model, every=1)
    first = outputs(model, cbs, stop)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "cbs": cbs.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    model = network(seed=1)
    cbs = CBS(model, sigma=3.0, every=7, kernel_size=5)  # the schedule is the checkpoint's
    model.load_state_dict(checkpoint["model"])
    cbs.load_state_dict(checkpoint["cbs"])
    assert (cbs.active, hooks(model)) == ((True, 2) if stop < 17 else (False, 0))
    rest = outputs(model, cbs, 22 - stop)
    assert all(torch.equal(a, b) for a, b in zip(first + rest, straight_through, strict=True))


def test_an_earlier_state_attaches_again():
    model = network()
    cbs = CBS(model, every=1)
    state = cbs.state_dict()
    kept = dict(state)
    before = model.eval()(images())
    step(cbs, 17)
    assert hooks(model) == 0
    assert state == kept == {"initial_sigma": 1.0, "decay": 0.9, "every": 1, "kernel_size": 3, "steps": 0}
    cbs.load_state_dict(state)
    assert (cbs.active, cbs.steps, hooks(model)) == (True, 0, 2)
    assert torch.equal(model(images()), before)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps=-1"),
        ({"steps": 1.5}, ValueError, r"steps=1\.5"),
        ({"initial_sigma": math.nan}, ValueError, "sigma=nan"),
        ({"decay": 2.0}, ValueError, r"decay=2\.0"),
        ({"every": 0}, ValueError, "every=0"),
        ({"kernel_size": 4}, ValueError, "kernel_size=4"),
        ({"initial_sigma": "1"}, TypeError, "sigma must be a number, not '1'"),
        ({"momentum": 0.9}, ValueError, "momentum"),
        ({"steps": None}, ValueError, "steps"),
    ],
)
def test_bad_states_are_refused_and_nothing_is_changed(change, error, message):
    model = network()
    cbs = CBS(model)
    step(cbs, 7)
    before = cbs.state_dict(), cbs.sigma, hooks(model)
    with pytest.raises(error, match=message):
        cbs.load_state_dict({**cbs.state_dict(), "steps": 500, **change})
    with pytest.raises(ValueError, match="has the keys"):
        cbs.load_state_dict({"steps": 3})
    with pytest.raises(TypeError, match="must be a mapping"):
        cbs.load_state_dict([1, 2])
    assert (cbs.state_dict(), cbs.sigma, hooks(model)) == before


# Refusals and texts


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sigma": -1.0}, ValueError, r"sigma=-1\.0"),
        ({"sigma": math.nan}, ValueError, "sigma=nan"),
        ({"sigma": math.inf}, ValueError, "sigma=inf"),
        ({"sigma": "1"}, TypeError, "sigma must be a number, not '1'"),
        ({"sigma": True}, TypeError, "sigma must be a number, not True"),
        ({"sigma": torch.tensor(1.0)}, TypeError, "sigma must be a number, not tensor"),
        ({"decay": 0.0}, ValueError, r"decay=0\.0"),
        ({"decay": 1.1}, ValueError, r"decay=1\.1"),
        ({"decay": math.nan}, ValueError, "decay=nan"),
        ({"decay": None}, TypeError, "decay must be a number, not None"),
        ({"every": 0}, ValueError, "every=0"),
        ({"every": 2.0}, ValueError, r"every=2\.0"),
        ({"every": True}, ValueError, "every=True"),
        ({"kernel_size": 2}, ValueError, "kernel_size=2"),
        ({"kernel_size": 2**63 + 1}, ValueError, f"kernel_size={2**63 + 1} must be at most {2**63 - 1}"),
        ({"kernel_size": 0}, ValueError, "kernel_size=0"),
        ({"kernel_size": -3}, ValueError, "kernel_size=-3"),
        ({"kernel_size": 3.0}, ValueError, r"kernel_size=3\.0"),
        ({"where": 5}, TypeError, "where must be"),
        ({"where": ".*"}, ValueError, "where selects '', a Sequential and no convolution"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_attached(arguments, error, message):
    model = network()
    with pytest.raises(error, match=message):
        CBS(model, **arguments)
    assert hooks(model) == 0


def test_a_model_must_be_a_module():
    with pytest.raises(TypeError, match="not function"):
        CBS(lambda x: x)


def test_repr_says_when_it_ends():
    model = network()
    cbs = CBS(model, every=1)
    assert repr(cbs) == ("CBS(sigma=1, decay=0.9, every=1, kernel_size=3, 2 sites, step 0, retires at 17)")
    step(cbs, 17)
    assert "step 17, retired" in repr(cbs)
    cbs.remove()
    assert "removed" in repr(cbs)
    assert "never retires" in repr(CBS(model, decay=1.0))
