"""Optimizers in CUDA graphs, and on streams of the user's choice."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.gpu.twins import Twins, plain, snapshot
from tests.optim.cases import Case, assert_equal, groups, random, typical_cases

pytestmark = [
    pytest.mark.gpu,
    # Of graphs of whole training steps: parameters are used on the default stream first, and on the capture's later.
    pytest.mark.filterwarnings("ignore:.*AccumulateGrad.*:UserWarning"),
    # Of torch's, where a thread of its backward pass is the first of the process to multiply matrices.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS.*no current CUDA context:UserWarning"),
]

# ---- graphs ----

GRAPHED = [
    Case("SGD", {"momentum": 0.9, "weight_decay": 0.05}),
    Case("SGD", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    Case("Adam", {"weight_decay": 0.05, "capturable": True}),
    Case("Adam", {"amsgrad": True, "weight_decay": 0.05, "capturable": True}),
    Case("AdamW", {"weight_decay": 0.3, "capturable": True}),
    Case("Adamax", {"weight_decay": 0.05, "capturable": True}),
    Case("Lion", {"weight_decay": 0.3}),
]
graphed_cases = pytest.mark.parametrize("case", GRAPHED, ids=str)


def on_a_side_stream(work: Callable[[], object]) -> None:
    """As torch asks for before a capture."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)


def captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


@graphed_cases
@pytest.mark.parametrize("rates", ["numbers", "tensors"])
def test_replays_are_steps(case: Case, rates: str, cuda: torch.device) -> None:
    """With new gradients, and with rates changed in place; bit for bit what steps outside of a graph do."""
    inside, outside = Twins(cuda, torch.float32), Twins(cuda, torch.float32)
    ours, expected = case.fast(groups(inside.there)), case.fast(groups(outside.there))
    if rates == "tensors":
        for optimizer in (ours, expected):
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"], device=cuda)
    outside.new_gradients()
    for param, other in zip(inside.there, outside.there, strict=True):
        param.grad = other.grad.clone()
    on_a_side_stream(ours.step)
    expected.step()
    before = snapshot(ours)
    graph = captured(ours.step)
    for now, old in zip(snapshot(ours), before, strict=True):
        assert_equal(now, old)  # a capture runs nothing
    for _ in range(4):
        outside.new_gradients()
        for param, other in zip(inside.there, outside.there, strict=True):
            param.grad.copy_(other.grad)
        graph.replay()
        expected.step()
        for now, then in zip(snapshot(ours), snapshot(expected), strict=True):
            assert_equal(now, then)
        if rates == "tensors":
            for optimizer in (ours, expected):
                for group in optimizer.param_groups:
                    group["lr"].mul_(0.75)


@graphed_cases
def test_a_graph_needs_no_other(case: Case, cuda: torch.device) -> None:
    """A second one, captured from the same state, when the first is gone without ever having run."""
    inside, outside = Twins(cuda, torch.float32), Twins(cuda, torch.float32)
    ours, expected = case.fast(groups(inside.there)), case.fast(groups(outside.there))
    inside.new_gradients()
    outside.new_gradients()
    on_a_side_stream(ours.step)
    expected.step()
    captured(ours.step).reset()
    filler = [torch.full((100_000,), 7, device=cuda) for _ in range(20)]  # where the first graph's memory was
    graph = captured(ours.step)
    del filler
    graph.replay()
    ours.step()  # and outside of graphs, by numbers that no graph needs to have copied
    for _ in range(2):
        expected.step()
    for now, then in zip(snapshot(ours), snapshot(expected), strict=True):
        assert_equal(now, then)


@pytest.mark.parametrize(
    ("case", "steps", "reason"),
    [
        (Case("Adam"), 1, "step count lies on the CPU"),
        (Case("Adamax"), 1, "step count lies on the CPU"),
        (Case("Adam", {"capturable": True}), 0, "no state yet"),
        (Case("SGD", {"momentum": 0.9}), 0, "no state yet"),
    ],
    ids=str,
)
def test_what_a_graph_would_not_repeat_is_refused(case: Case, steps: int, reason: str, cuda: torch.device) -> None:
    """And changes nothing."""
    twins = Twins(cuda, torch.float32, [((100,), plain, plain)])
    optimizer = case.fast(twins.there)
    twins.new_gradients()
    for _ in range(steps):
        on_a_side_stream(optimizer.step)
    before, scratch = snapshot(optimizer), torch.zeros(1, device=cuda)

    def work() -> None:
        scratch.add_(1)  # torch warns of graphs without anything in them
        optimizer.step()

    with pytest.raises(RuntimeError, match=f"graph is being captured.*{reason}"):
        captured(work)
    for now, old in zip(snapshot(optimizer), before, strict=True):
        assert_equal(now, old)
    optimizer.step()
    assert len(snapshot(optimizer)) > 1


def test_sgd_without_momentum_needs_no_step_before(cuda: torch.device) -> None:
    param = nn.Parameter(torch.ones(5000, device=cuda))
    param.grad = torch.ones_like(param)
    optimizer = Case("SGD").fast([param], lr=0.25)
    graph = captured(optimizer.step)
    for _ in range(3):
        graph.replay()
    assert_equal(param.detach().cpu(), torch.full((5000,), 0.25))


class Training:
    """A small network, its optimizer, and a step on a batch that lies where it always lies."""

    def __init__(self, case: Case, device: torch.device) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(12, 33), nn.Tanh(), nn.Linear(33, 5)).to(device)
        self.optimizer = case.fast(groups(list(self.model.parameters())))
        self.x = torch.zeros(16, 12, device=device)
        self.y = torch.zeros(16, dtype=torch.int64, device=device)

    def load(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x.copy_(random((16, 12), torch.float32, generator))
        self.y.copy_(torch.randint(0, 5, (16,), generator=generator))

    def step(self, model: Callable[[Tensor], Tensor] | None = None) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy((model or self.model)(self.x), self.y).backward()
        self.optimizer.step()

    def assert_close(self, other: "Training") -> None:
        # Matrix products may be computed otherwise in a graph than outside.
        for a, b in zip(self.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@graphed_cases
def test_whole_training_step_in_a_graph(case: Case, cuda: torch.device) -> None:
    inside, outside = Training(case, cuda), Training(case, cuda)
    for seed in range(3):
        for training in (inside, outside):
            training.load(seed)
        on_a_side_stream(inside.step)
        outside.step()
    inside.optimizer.zero_grad()  # so that the graph's gradients are made in its own memory
    graph = captured(inside.step)
    for seed in range(3, 8):
        for training in (inside, outside):
            training.load(seed)
        graph.replay()
        outside.step()
        inside.assert_close(outside)


@typical_cases
def test_graphed_callables(case: Case, cuda: torch.device) -> None:
    """Forward and backward in graphs, the step outside: gradients come in the same memory every time."""
    inside, outside = Training(case, cuda), Training(case, cuda)
    graphed = torch.cuda.make_graphed_callables(inside.model, (inside.x.clone(),))
    for seed in range(4):
        for training in (inside, outside):
            training.load(seed)
        inside.step(graphed)
        outside.step()
        inside.assert_close(outside)


# ---- streams ----


def _produce_late(twins: Twins, stream: torch.cuda.Stream, cycles: int) -> None:
    """Gradients that are wrong until the stream, which has long work before that, has filled them in."""
    twins.new_gradients()
    late = [param.grad for param in twins.there]
    for gradient in late:
        gradient.record_stream(stream)
    for param, gradient in zip(twins.there, late, strict=True):
        param.grad = torch.full_like(gradient, 1e6)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(cycles)
        for param, gradient in zip(twins.there, late, strict=True):
            param.grad.copy_(gradient)


@typical_cases
def test_the_step_is_queued_on_the_current_stream(case: Case, cuda: torch.device) -> None:
    twins = Twins(cuda, torch.float32)
    there, here = twins.optimizers(case)
    stream = torch.cuda.Stream()
    for _ in range(2):
        _produce_late(twins, stream, 50_000_000)
        with torch.cuda.stream(stream):
            there.step()
        here.step()
        stream.synchronize()
        twins.assert_equal(there, here)


@typical_cases
def test_two_optimizers_on_two_streams(case: Case, cuda: torch.device) -> None:
    both = [Twins(cuda, torch.float32), Twins(cuda, torch.float32)]
    optimizers = [twins.optimizers(case) for twins in both]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for _ in range(3):
        for twins, stream, cycles in zip(both, streams, (50_000_000, 1_000_000), strict=True):
            _produce_late(twins, stream, cycles)
        for (there, here), stream in zip(optimizers, streams, strict=True):
            with torch.cuda.stream(stream):
                there.step()
            here.step()
        for stream in streams:
            torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    for twins, (there, here) in zip(both, optimizers, strict=True):
        twins.assert_equal(there, here)
