"""The hooks of CBS: what they overwrite, what becomes of them in copies and pickles, and several CBS on one model."""

import copy
import gc
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lerac_fast.cbs.cbs import CBS
from tests.cbs.smoothing import hooks, images, network, smoothing_calls, step
from tests.reference import cbs as reference

# In place, and where it must not be


def test_smooths_in_place_without_disturbing_others():
    kept = []
    conv = nn.Conv2d(3, 4, 3)
    conv.register_forward_hook(lambda *call: kept.append(call[2]))
    CBS(conv)
    for run in (lambda: conv(images()), torch.no_grad()(lambda: conv(images()))):
        assert smoothing_calls(run) == ["gaussian_smooth_"]
        assert kept.pop() is not None
    output = conv(images())
    assert kept.pop() is output  # hooks see the map that the model goes on with


def test_out_of_place_behind_an_earlier_hook():
    kept = []
    conv = nn.Conv2d(3, 4, 3)
    CBS(conv)
    conv.register_forward_hook(lambda *call: kept.append((call[2], call[2].clone())), prepend=True)
    assert smoothing_calls(lambda: conv(images())) == ["gaussian_smooth"]
    assert torch.equal(*kept[0])


class Activated(nn.Conv2d):
    """As detectron2's: the activation, whose backward pass needs its output, belongs to the convolution."""

    def forward(self, x):
        return super().forward(x).sigmoid()


class WeightStandardized(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


class Passing(nn.Conv2d):
    def forward(self, x):
        return x


class Activating(nn.Conv2d):
    """`forward` is torch's own."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight, bias).sigmoid()


@pytest.mark.parametrize("kind", [Activated, Activating])
def test_a_forward_that_goes_on_from_the_convolution_is_smoothed_out_of_place(kind):
    conv = kind(3, 4, 3)
    expected = conv(images())
    plain_gradient = torch.autograd.grad(reference.Smooth(1.0, 2)(expected).square().sum(), conv.weight)
    CBS(conv)
    for run in (lambda: conv(images()), torch.no_grad()(lambda: conv(images()))):
        assert smoothing_calls(run) == ["gaussian_smooth"]
    gradient = torch.autograd.grad(conv(images()).square().sum(), conv.weight)
    torch.testing.assert_close(gradient, plain_gradient)


class Keeping(nn.Conv2d):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


@pytest.mark.parametrize("kind", [WeightStandardized, Keeping])
def test_a_forward_of_somebody_elses_is_smoothed_out_of_place(kind):
    """It may keep its output, or need it."""
    conv = kind(3, 4, 3)
    CBS(conv)
    for run in (lambda: conv(images()), torch.no_grad()(lambda: conv(images()))):
        assert smoothing_calls(run) == ["gaussian_smooth"]


def test_global_hooks_keep_what_they_saw():
    """They run before those of modules."""
    conv = nn.Conv2d(3, 4, 3)
    CBS(conv)
    kept = []
    handle = nn.modules.module.register_module_forward_hook(lambda _, __, output: kept.append(output))
    try:
        assert smoothing_calls(lambda: conv(images())) == ["gaussian_smooth"]
        smoothed = conv(images())
        kept[-1].pow(2).sum().backward(retain_graph=True)
        smoothed.sum().backward()
    finally:
        handle.remove()
    assert not torch.equal(kept[-1], smoothed)
    assert smoothing_calls(lambda: conv(images())) == ["gaussian_smooth_"]


def test_the_input_is_never_overwritten():
    before, passing = nn.Conv2d(3, 3, 1), Passing(3, 3, 3)
    CBS(passing)
    for x in (before(images()), before(images()).detach()):
        kept = x.detach().clone()
        assert not torch.equal(passing(x), kept)
        assert torch.equal(x, kept)
    patched = nn.Conv2d(3, 3, 3)
    CBS(patched)
    patched.forward = lambda x: x
    x = images()
    assert not torch.equal(patched(x), x)
    assert torch.equal(x, images())


def test_inference_mode():
    model = network().eval()
    expected = reference.smoothed(model, 0.9, 2)(images())
    with torch.inference_mode():
        cbs = CBS(model, every=1)
        cbs.step()
        torch.testing.assert_close(model(images()), expected.detach())
    model.train()(images()).sum().backward()  # the width, set in inference mode, can be saved


# Copies and pickles


def test_deep_copies_share_the_schedule():
    model = network()
    cbs = CBS(model, every=1)
    twin = copy.deepcopy(model)
    for _ in range(20):
        assert torch.equal(model(images()), twin(images()))
        assert len(smoothing_calls(lambda: twin(images()))) == (2 if cbs.active else 0)
        model(images())
        cbs.step()
    assert not cbs.active
    assert hooks(model) == 0


def test_deep_copies_stop_when_the_original_is_removed():
    model = network()
    cbs = CBS(model)
    twin = copy.deepcopy(model)
    cbs.remove()
    assert smoothing_calls(lambda: twin(images())) == []


def test_a_deep_copy_with_its_cbs_shares_it():
    class Trainer(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()
            self.smoothing = CBS(self)

    trainer = Trainer()
    assert copy.deepcopy(trainer).smoothing is trainer.smoothing


def test_a_new_cbs_takes_over_a_deep_copy():
    model = network()
    cbs = CBS(model, every=1)
    twin = copy.deepcopy(model)
    own = CBS(twin, sigma=0.5)
    assert hooks(twin) == 2
    step(cbs, 20)
    torch.testing.assert_close(twin(images()), reference.smoothed(network(), 0.5, 2)(images()))
    own.remove()
    assert hooks(twin) == 0


def save_and_load(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [save_and_load, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_pickled_model_is_smoothed_as_when_it_was_saved(copied):
    model = network()
    cbs = CBS(model, every=1)
    step(cbs, 4)
    loaded = copied(model)
    step(cbs, 30)
    torch.testing.assert_close(loaded(images()), reference.smoothed(network(), 0.9**4, 2)(images()))
    own = CBS(loaded, sigma=0.0)  # takes over
    assert hooks(loaded) == 0
    assert not own.active


@pytest.mark.parametrize("retired", [False, True])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_pickled_together_they_stay_connected(order, retired):
    pair = [network()]
    pair.append(CBS(pair[0], every=1))
    step(pair[1], 20 if retired else 2)
    loaded = save_and_load([pair[i] for i in order])
    model, cbs = (loaded[i] for i in order)
    assert (cbs.steps, cbs.active, hooks(model)) == ((20, False, 0) if retired else (2, True, 2))
    cbs.load_state_dict({**cbs.state_dict(), "steps": 5})
    torch.testing.assert_close(model(images()), reference.smoothed(network(), 0.9**5, 2)(images()))
    with pytest.raises(ValueError, match="smoothed by another CBS"):
        CBS(model)
    cbs.remove()
    assert hooks(model) == 0


def test_hooks_that_come_after_loading_replace_nothing(monkeypatch):
    # Every process numbers its hooks from 0, and one of the same number would take the other's place.
    monkeypatch.setattr(RemovableHandle, "next_id", 0)
    conv = nn.Conv2d(3, 4, 3)
    CBS(conv)
    data = pickle.dumps(conv)
    RemovableHandle.next_id = 0
    loaded = pickle.loads(data)
    loaded.register_forward_hook(lambda *_: None)
    assert hooks(loaded) == 2


# Several on one model


def test_a_module_belongs_to_one_cbs():
    model = network()
    cbs = CBS(model, where="0")
    with pytest.raises(ValueError, match=r"'0' is smoothed by another CBS already.*remove\(\)"):
        CBS(model)
    assert hooks(model) == 1
    other = CBS(model, where="5", sigma=0.5)
    assert hooks(model) == 2
    cbs.remove()
    assert CBS(model, where="0").active
    assert other.active


def test_one_that_is_gone_is_replaced():
    model = network()
    cbs = CBS(model, sigma=2.0)
    del cbs
    gc.collect()
    assert hooks(model) == 2
    other = CBS(model, where="5", sigma=0.5)
    assert hooks(model) == len(other.sites) == 1


def test_a_retired_one_cannot_come_back_to_modules_that_were_taken():
    model = network()
    first = CBS(model, every=1)
    state = first.state_dict()
    step(first, 20)
    second = CBS(model)
    with pytest.raises(ValueError, match="smoothed by another CBS"):
        first.load_state_dict(state)
    assert (first.steps, hooks(model)) == (20, 2)
    del second
    gc.collect()
    first.load_state_dict(state)
    assert hooks(model) == 2
