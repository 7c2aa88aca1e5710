"""CBS with what it must work with: torch.compile, DistributedDataParallel, LeRaC, layer_groups; and what it costs."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile
from torchvision import models

from lerac_fast import CBS, LeRaC, layer_groups
from lerac_fast.cbs.sites import Tokens
from tests.reference import cbs as reference


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Sequential(nn.Conv2d(6, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def batch(size=10, count=4):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 4


# torch.compile


@pytest.fixture
def compiled_anew():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


pytestmark = pytest.mark.usefixtures("compiled_anew")


class Compiler(CompileCounterWithBackend):
    """Counts what it compiles, and the smoothing ops in each graph."""

    def smoothing_ops(self):
        return [
            sum("gaussian_smooth" in str(node.target) for node in graph.graph.nodes if node.op == "call_function")
            for graph in self.graphs
            if any(node.op != "output" for node in graph.graph.nodes)
        ]


@pytest.mark.parametrize("compile_first", [False, True])
def test_compiled_training_is_that_in_eager_mode(compile_first):
    compiler = Compiler("aot_eager")
    plain, inner = network(), network()
    if compile_first:
        model = torch.compile(inner, backend=compiler, fullgraph=True)
        curricula = [CBS(plain, every=2), CBS(model, every=2)]
    else:
        curricula = [CBS(plain, every=2), CBS(inner, every=2)]
        model = torch.compile(inner, backend=compiler, fullgraph=True)
    x, y = batch()
    for step in range(36):
        losses = []
        for net in (plain, model):
            net.zero_grad()
            losses.append(F.cross_entropy(net(x), y))
            losses[-1].backward()
        torch.testing.assert_close(*losses)
        gradients = [[parameter.grad for parameter in net.parameters()] for net in (plain, model)]
        torch.testing.assert_close(*gradients)
        # The first steps compile, for all widths, and retirement does, after which nothing is left of smoothing.
        compiled = compiler.smoothing_ops()
        if step == 1:
            for_all_widths = compiled
            assert set(for_all_widths) == {2}
        elif 1 < step < 34:
            assert compiled == for_all_widths
        elif step == 34:
            retired = compiled[len(for_all_widths) :]
            assert set(retired) == {0}
        elif step == 35:
            assert compiled == for_all_widths + retired
        for cbs in curricula:
            cbs.step()


def test_compiled_code_recompiles_only_for_the_dtype_that_is_done():
    compiler = Compiler("eager")
    inner = network().eval()
    cbs = CBS(inner, every=1)
    model = torch.compile(inner, backend=compiler, fullgraph=True)
    x, _ = batch()

    def run():
        expected = inner(x)
        torch.testing.assert_close(model(x), expected)
        with torch.autocast("cpu", torch.bfloat16):
            model(x)

    run()
    assert compiler.smoothing_ops() == [2, 2]
    for _ in range(14):  # beyond the retirement of bfloat16 and float16, not that of float32
        cbs.step()
        run()
    assert cbs.active
    assert compiler.smoothing_ops() == [2, 2, 0]


@pytest.mark.compiles
def test_the_default_compiler():
    plain, inner = network().eval(), network().eval()
    curricula = [CBS(plain, every=1), CBS(inner, every=1)]
    model = torch.compile(inner[0], fullgraph=True)
    x, _ = batch()
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain[0](x))
        with torch.compiler.set_stance("fail_on_recompile"):
            for _ in range(2):
                for cbs in curricula:
                    cbs.step()
                torch.testing.assert_close(model(x), plain[0](x))


class Broken(nn.Module):
    """Graph breaks split its forward pass in three."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        x = x * 1
        torch._dynamo.graph_break()
        x = self.net[:4](x)
        torch._dynamo.graph_break()
        return self.net[4:](x)


def compile_wrapper(model):
    return torch.compile(model, backend="eager")


def compile_in_place(model):
    model.compile(backend="eager")
    return model


def compile_part(model):
    model[3] = torch.compile(model[3], backend="eager")
    return model


def compile_function(model):
    return torch.compile(lambda x: model(x), backend="eager")


def compile_in_pieces(model):
    return torch.compile(Broken(model), backend="eager")


@torch.no_grad()  # Dynamo warns of the inputs of pieces of a graph otherwise
@pytest.mark.parametrize(
    "compiled", [compile_wrapper, compile_in_place, compile_part, compile_function, compile_in_pieces]
)
def test_hooks_that_come_after_the_first_run_are_not_ignored(compiled):
    """Dynamo does not guard on hooks; without a reset, compiled code would go on without them."""
    x, _ = batch()
    inner = network().eval()
    model = compiled(inner)
    plain = model(x)
    expected = reference.smoothed(nn.Sequential(*network().eval()[:3], *network().eval()[3], *network()[4:]), 1.0, 2)(x)
    cbs = CBS(inner, every=1)
    torch.testing.assert_close(model(x), expected)
    state = cbs.state_dict()
    for _ in range(17):
        cbs.step()
    torch.testing.assert_close(model(x), plain)
    cbs.load_state_dict(state)  # attaches again
    torch.testing.assert_close(model(x), expected)
    cbs.remove()
    torch.testing.assert_close(model(x), plain)


def test_compiled_tokens():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    inner = nn.TransformerEncoder(layer, 2)
    where = {r"layers\.\d": Tokens(class_tokens=1, padding="src_key_padding_mask"), r"layers\.1\.linear1": Tokens()}
    cbs = CBS(inner, every=1, where=where)
    compiler = Compiler("eager")
    model = torch.compile(inner, backend=compiler, fullgraph=True)
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    padding = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()
    for step in range(19):
        torch.testing.assert_close(model(x, src_key_padding_mask=padding), inner(x, src_key_padding_mask=padding))
        assert compiler.smoothing_ops() == ([3] if step < 17 else [3, 0])
        cbs.step()


def test_exported_programs_keep_the_smoothing():
    model = network().eval()
    x, _ = batch()
    with CBS(model, sigma=0.7):
        program = torch.export.export(model, (x,))
        expected = model(x)
    torch.testing.assert_close(program.module()(x), expected)


# DistributedDataParallel


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("attach_to_wrapper", [False, True])
@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel(attach_to_wrapper):
    plain, inner = network(), network()
    wrapper = DistributedDataParallel(inner)
    curricula = [CBS(plain, every=1), CBS(wrapper if attach_to_wrapper else inner, every=1)]
    assert curricula[0].sites == curricula[1].sites == ("0", "3.0")
    x, y = batch()
    for _ in range(18):
        for net in (plain, wrapper):
            net.zero_grad()
            F.cross_entropy(net(x), y).backward()
        gradients = [[parameter.grad for parameter in net.parameters()] for net in (plain, inner)]
        torch.testing.assert_close(*gradients)
        for cbs in curricula:
            cbs.step()
    assert not any(module._forward_hooks for module in wrapper.modules())


# With LeRaC, on one model


def test_with_lerac_in_one_loop():
    def train(model, curricula, steps):
        """`curricula` makes of an optimizer and a model what is stepped beside the optimizer."""
        x, y = batch()
        optimizer = torch.optim.SGD(layer_groups(model, example_inputs=x), lr=0.1, momentum=0.9)
        stepped = curricula(optimizer, model)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            for curriculum in stepped:
                curriculum.step()
            losses.append(loss.item())
        return losses, optimizer, stepped

    def both(optimizer, model):
        return LeRaC(optimizer, 10, min_lr=1e-6), CBS(model, every=1)

    losses, optimizer, (lerac, cbs) = train(network(), both, 30)
    assert lerac.finished
    assert not cbs.active
    assert [group["lr"] for group in optimizer.param_groups] == [0.1] * len(optimizer.param_groups)
    assert losses[-1] < losses[0]
    # Each does its part: without the other, another training.
    alone = [
        train(network(), lambda optimizer, _: [LeRaC(optimizer, 10, min_lr=1e-6)], 3)[0],
        train(network(), lambda _, model: [CBS(model, every=1)], 3)[0],
        train(network(), lambda *_: [], 3)[0],
    ]
    assert len({tuple(run) for run in [*alone, losses[:3]]}) == 4


def test_the_depth_of_a_smoothed_model_is_that_of_the_model():
    model = models.resnet18()
    x = torch.randn(2, 3, 32, 32)
    groups = [(group["name"], group["depth"]) for group in layer_groups(model, example_inputs=x)]
    CBS(model)
    assert [(group["name"], group["depth"]) for group in layer_groups(model, example_inputs=x)] == groups


# What it costs: memory


def allocations(run):
    """The bytes of every allocation (positive) and release (negative) of tensors within `run`, in order of time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    return [event.nbytes() for event in events if event.name() == "[memory]"]


def peak(sizes):
    return max(sum(sizes[: i + 1]) for i in range(len(sizes)))


def authors_smoothing(module, args, output):  # noqa: ARG001
    """A depthwise convolution, whose backward pass keeps its input."""
    kernel = torch.full((output.size(1), 1, 3, 3), 1 / 9)
    return F.conv2d(output, kernel, padding=1, groups=output.size(1))


def training_memory(model, memory_format):
    """Peak of a training step, in bytes beyond what is there before, and the bytes that its forward pass allocates."""
    model = model.to(memory_format=memory_format)
    x, y = batch(size=32, count=8)
    x = x.to(memory_format=memory_format)

    def step():
        F.cross_entropy(model(x), y).backward()

    step()  # what is allocated once
    model.zero_grad()
    whole = allocations(step)
    model.zero_grad()
    forward = allocations(lambda: model(x).sum())
    return peak(whole), sum(size for size in forward if size > 0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("build", [network, lambda: models.resnet18(num_classes=4)])
def test_smoothing_takes_no_memory(build, memory_format):
    model = build()
    plain_peak, plain_forward = training_memory(copy.deepcopy(model), memory_format)
    smoothed = copy.deepcopy(model)
    cbs = CBS(smoothed)
    smoothed_peak, smoothed_forward = training_memory(smoothed, memory_format)
    assert smoothed_peak <= 1.02 * plain_peak
    assert smoothed_forward == plain_forward
    # What is measured would show: the authors' formulation keeps a map more for each convolution.
    for name in cbs.sites:
        model.get_submodule(name).register_forward_hook(authors_smoothing)
    authors_peak, authors_forward = training_memory(model, memory_format)
    assert authors_peak > 1.02 * plain_peak
    assert authors_forward > plain_forward


def test_the_public_constructor():
    assert list(inspect.signature(CBS).parameters) == ["model", "sigma", "decay", "every", "kernel_size", "where"]
    defaults = [parameter.default for parameter in inspect.signature(CBS).parameters.values()]
    assert defaults[1:] == [1.0, 0.9, 5, 3, None]
