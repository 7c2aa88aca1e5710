"""CBS and what others do with a smoothed model: fusing norms, exporting, tracing, scripting, interrupting."""

import copy
import gc
import pickle
import sys

import pytest
import torch
import torch.ao.quantization
from torch import nn
from torch._dynamo import compiled_autograd
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import fuse_conv_bn_eval

from lerac_fast import gaussian_smooth_
from lerac_fast.cbs.cbs import CBS
from tests.cbs.smoothing import hooks, images, network, step

# Fake tensors are made of tensors that are no leaves, which warns.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")

# Folding norms


def evaluated(bias):
    """A convolution and its norm, with statistics that matter."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=bias), nn.BatchNorm2d(5))
    for tensor in (model[1].weight.data, model[1].bias.data, model[1].running_mean):
        nn.init.normal_(tensor, generator=torch.Generator().manual_seed(5))
    return model.eval()


def fold(model):
    return fuse_conv_bn_eval(*model)


def fold_for_quantization(model):
    return torch.ao.quantization.fuse_modules(model, [["0", "1"]])


def pickled(folded):
    return pickle.loads(pickle.dumps(folded))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("then", [lambda folded: folded, copy.deepcopy, pickled], ids=["folded", "copied", "pickled"])
@pytest.mark.parametrize("folding", [fold, fuse, fold_for_quantization])
def test_norms_folded_behind_the_smoothing_are_refused(folding, then, bias):
    """They would be smoothed where smoothing belongs before them."""
    model = evaluated(bias)
    expected = model(images())
    cbs = CBS(model, every=1)
    folded = then(folding(model))
    if then is not pickled:  # it keeps its width
        with pytest.raises(RuntimeError, match=r"'0' has got another bias, as by folding .* after remove\(\)"):
            folded(images())
        step(cbs, 100)
    else:
        with pytest.raises(RuntimeError, match="'0' has got another bias"):
            folded(images())
        cbs.remove()
        folded = folding(model)
    torch.testing.assert_close(folded(images()), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_folded_norms_are_refused_in_compiled_code(bias):
    torch.compiler.reset()
    model = evaluated(bias)
    cbs = CBS(model)
    compiled = torch.compile(fold(model), backend="eager")
    with pytest.raises(RuntimeError, match="'0' has got another bias"):
        compiled(images())
    cbs.remove()
    torch.compiler.reset()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda conv: copy.deepcopy(copy.deepcopy(conv)), pickled])
@pytest.mark.parametrize("bias", [False, True])
def test_other_copies_of_a_convolution_are_smoothed(copied, bias):
    model = evaluated(bias)
    cbs = CBS(model)
    twin = copied(model[0])
    assert torch.equal(twin(images()), model[0](images()))
    twin.load_state_dict({name: parameter * 2 for name, parameter in model[0].state_dict().items()})
    torch.testing.assert_close(twin(images()), 2 * model[0](images()))
    assert torch.equal(torch.compile(copied(model[0]), backend="eager")(images()), model[0](images()))
    cbs.remove()
    torch.compiler.reset()


def test_biases_may_be_replaced():
    """As loading with assign=True, or sharding, does."""
    model = evaluated(bias=True)
    cbs = CBS(model)
    twin = copy.deepcopy(model)
    for net in (model, twin):
        net.load_state_dict({name: 2 * value for name, value in net.state_dict().items()}, assign=True)
        net(images())
    assert cbs.active


# Exporting and tracing


def export(model, x):
    return torch.export.export(model, (x,)).module()


def export_strictly(model, x):
    return torch.export.export(model, (x,), strict=True).module()


def trace(model, x):
    return torch.jit.trace(model, (x,))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("export", [export, export_strictly, trace])
def test_exported_programs_stay_at_the_width_of_their_export(export):
    model = network().eval()
    cbs = CBS(model, every=1)
    step(cbs, 2)
    expected = model(images())
    program = export(model, images())
    torch.testing.assert_close(program(images()), expected)
    for times in (1, 100):
        step(cbs, times)
        torch.testing.assert_close(program(images()), expected)
        assert not torch.allclose(model(images()), expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning")
def test_scripting_says_what_to_do():
    model = network().eval()
    with (
        CBS(model),
        pytest.raises(AttributeError, match=r"torch\.jit\.script cannot compile .* '0': script the model when"),
    ):
        torch.jit.script(model)
    torch.testing.assert_close(torch.jit.script(model)(images()), model(images()))


def test_compiled_autograd():
    torch.compiler.reset()
    model, twin = network(), network()
    curricula = CBS(model), CBS(twin)
    model(images()).square().sum().backward()
    loss = twin(images()).square().sum()
    with compiled_autograd._enable(torch.compile(backend="eager")):
        loss.backward()
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)
    for cbs in curricula:
        cbs.remove()
    torch.compiler.reset()


@pytest.mark.parametrize("view", [False, True])
def test_compiled_autograd_through_the_operator_in_place(view):
    def gradient(backward):
        leaf = images().requires_grad_()
        x = leaf * 2
        gaussian_smooth_(x[:, 1:] if view else x, 1.0)
        backward(x.square().sum())
        return leaf.grad

    def compiled(loss):
        with compiled_autograd._enable(torch.compile(backend="eager")):
            loss.backward()

    torch.compiler.reset()
    torch.testing.assert_close(gradient(compiled), gradient(torch.Tensor.backward))
    torch.compiler.reset()


# Interrupts


def interrupted_at(line, run):
    """Runs with Ctrl-C at the n-th line of CBS and its hooks; whether it came to that."""
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if not frame.f_code.co_filename.endswith(("cbs/cbs.py", "cbs/_hooks.py")):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                raise KeyboardInterrupt
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(previous)
    return False


def every_interrupt(run):
    """The numbers of lines at which `run()`, a new function each time, can be interrupted."""
    line = 1
    while interrupted_at(line, run(line)):
        yield line
        line += 1


def test_an_interrupted_cbs_leaves_nothing_behind():
    model = network()
    for _ in every_interrupt(lambda _: lambda: CBS(model)):
        assert hooks(model) == 0
    CBS(model).remove()


@pytest.mark.parametrize("times", [0, 100], ids=["removed", "attached again"])
def test_remove_finds_all_hooks_after_an_interrupt(times):
    """Whatever was interrupted: loading a state attaches, and remove() and steps detach."""
    made = []

    def run(_):
        model = network()
        cbs = CBS(model, every=1)
        state = cbs.state_dict()
        step(cbs, times)
        made[:] = [model, cbs]
        return lambda: cbs.load_state_dict(state) if times else cbs.remove()

    for _ in every_interrupt(run):
        model, cbs = made
        assert hooks(model) in ((0, 2) if times else (0, 1, 2))
        cbs.remove()
        assert hooks(model) == 0
        assert not cbs.active


def test_a_module_that_refuses_hooks_leaves_none_on_the_others(monkeypatch):
    model = network()

    def refuse(*_, **__):
        raise RuntimeError("no hooks here")

    monkeypatch.setattr(model[5], "register_forward_hook", refuse)
    with pytest.raises(RuntimeError, match="no hooks here"):
        CBS(model)
    gc.collect()
    assert hooks(model) == 0
