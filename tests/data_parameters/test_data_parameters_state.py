"""DataParameters as a module: non-finite losses, loss scaling, checkpoints, copies, casts, and cost."""

import copy
import gc
import io
import math
import pickle
import weakref
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lerac_fast import DataParameters
from tests.data_parameters.batches import (
    CLASSES,
    INSTANCES,
    assert_matches,
    assert_same_bits,
    moved,
    random_batch,
    tables,
    train_step,
    with_reference,
)

# Losses that are not finite, and scaled losses


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("options", [{}, {"clamp": (0.5, 2.0)}, {"class_gradient": "batch_mean"}])
def test_a_gradient_that_is_not_finite_changes_nothing(value, options):
    criterion, expected = moved(**options), moved(**options)
    logits, targets, indices = random_batch(0, 8)
    with torch.no_grad():
        logits[3, targets[3]] = value
    criterion(*random_batch(1, 8)).backward()  # of a good batch, dropped along with the bad one
    train_step(criterion, (logits, targets, indices))
    assert_same_bits(tables(criterion), tables(expected))
    for target in (criterion, expected):
        train_step(target, random_batch(2, 8))
    assert_same_bits(tables(criterion), tables(expected))


def test_gradients_whose_sum_overflows_change_nothing():
    criterion = moved()
    before = tables(criterion)
    largest = torch.finfo(torch.float32).max
    sigma = criterion.temperatures(torch.zeros(2).long(), torch.zeros(2).long())
    (sigma * 0.9 * largest).sum().backward()
    criterion.step()
    assert_same_bits(tables(criterion), before)


def test_scaled_losses_give_the_bits_of_unscaled_ones():
    criterion, expected = moved(), moved()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(5):
        logits, targets, indices = random_batch(step, 8)
        overflow = step == 2
        for target in (criterion, expected):
            optimizer.zero_grad()
            loss = target(logits, targets, indices) + model(torch.zeros(1)).sum()
            if target is criterion:
                scaler.scale(loss * math.inf if overflow else loss).backward()
                scaler.step(optimizer)
                criterion.step(scaler)
                scaler.update()
            elif not overflow:
                loss.backward()
                expected.step()
        assert_same_bits(tables(criterion), tables(expected))
    assert scaler.get_scale() == 2048.0  # it has grown, shrunk and grown


def test_a_scaler_that_is_off_divides_nothing():
    criterion, expected = moved(), moved()
    for target, arguments in ((criterion, (torch.amp.GradScaler("cpu", enabled=False),)), (expected, ())):
        target(*random_batch(0, 8)).backward()
        target.step(*arguments)
    assert_same_bits(tables(criterion), tables(expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_other_dtypes(dtype):
    criterion, expected = with_reference(num_classes=CLASSES, num_instances=INSTANCES, weight_decay=0.02)
    for step in range(3):
        logits, targets, indices = random_batch(step, 16)
        batch = logits.detach().to(dtype).requires_grad_(), targets, indices
        train_step(criterion, batch)
        expected.step([[batch]])
        assert batch[0].grad.dtype == dtype
        assert_matches(criterion, expected)


def test_autocast():
    model, criterion = nn.Linear(8, CLASSES), moved()
    _, targets, indices = random_batch(0, 16)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(16, 8))
        loss = criterion(logits, targets, indices)
        with torch.no_grad():
            plain = criterion.eval()(logits, targets)
            criterion.train()
    assert (logits.dtype, loss.dtype, plain.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    expected = moved()
    loss.backward()
    criterion.step()
    train_step(expected, (logits.detach().requires_grad_(), targets, indices))
    assert_same_bits(tables(criterion), tables(expected))
    assert model.weight.grad.isfinite().all()


# Checkpoints and copies


def test_the_state_is_the_tables():
    assert list(moved(weight=torch.ones(CLASSES)).state_dict()) == [
        "class_log_sigma",
        "class_momentum",
        "instance_log_sigma",
        "instance_momentum",
    ]
    assert list(DataParameters(3).state_dict()) == ["class_log_sigma", "class_momentum"]
    assert list(DataParameters(3, 4).parameters()) == []


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_resumes_to_the_bit(stop):
    def training():
        torch.manual_seed(0)
        model = nn.Linear(4, CLASSES)
        criterion = DataParameters(CLASSES, INSTANCES, weight_decay=0.01)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), criterion

    def train(model, optimizer, criterion, steps):
        for step in steps:
            _, targets, indices = random_batch(step, 10)
            optimizer.zero_grad()
            criterion(
                model(torch.randn(10, 4, generator=torch.Generator().manual_seed(step))), targets, indices
            ).backward()
            optimizer.step()
            criterion.step()

    straight = training()
    train(*straight, range(6))
    first = training()
    train(*first, range(stop))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    second = training()
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*second, range(stop, 6))
    for found, expected in ((second[0], straight[0]), (second[2], straight[2])):
        assert_same_bits(dict(found.state_dict()), dict(expected.state_dict()))


def test_a_state_of_another_size_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for instance_log_sigma"):
        DataParameters(CLASSES, INSTANCES + 1).load_state_dict(moved().state_dict())


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda criterion: pickle.loads(pickle.dumps(criterion))])
def test_copies_go_on_by_themselves(make_copy):
    criterion = moved(clamp=(0.1, 10.0), label_smoothing=0.1)
    before = tables(criterion)
    criterion(*random_batch(0, 8)).backward()  # noted by both
    twin = make_copy(criterion)
    twin.step()
    assert_same_bits(tables(criterion), before)
    criterion.step()
    for target in (criterion, twin):
        train_step(target, random_batch(1, 8))
    assert_same_bits(tables(criterion), tables(twin))
    assert repr(twin) == repr(criterion)


def test_repr():
    assert repr(DataParameters(10, 50_000, weight_decay=0)) == (
        "DataParameters(num_classes=10, class_lr=0.1, num_instances=50000, instance_lr=0.2, momentum=0.9, "
        "weight_decay=0)"
    )
    assert "class" not in repr(DataParameters(num_instances=3))


# Where the tables are


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_tables_stay_float32(cast):
    criterion, expected = moved(), moved()
    model = nn.Sequential(nn.Linear(2, 2), criterion)
    getattr(model, cast)()
    assert model[0].weight.dtype == getattr(torch, cast)
    assert {table.dtype for table in criterion.state_dict().values()} == {torch.float32}
    assert_same_bits(tables(criterion), tables(expected))
    for target in (criterion, expected):
        train_step(target, random_batch(0, 8))
    assert_same_bits(tables(criterion), tables(expected))


def test_moves_to_other_devices():
    criterion = moved(weight=torch.ones(CLASSES)).to("meta", torch.float16)
    assert {(table.device.type, table.dtype) for table in criterion.buffers()} == {("meta", torch.float32)}
    empty = criterion.to_empty(device="cpu")
    empty.load_state_dict(moved().state_dict())
    assert_same_bits(tables(empty), tables(moved()))


def test_class_weights_go_with_logits_of_any_dtype():
    weight = torch.arange(1.0, CLASSES + 1)
    criterion = moved(weight=weight).to(torch.bfloat16)
    logits, targets, indices = random_batch(0, 8)
    criterion(logits.detach().bfloat16().requires_grad_(), targets, indices).backward()
    found = criterion.eval()(logits.bfloat16(), targets)
    torch.testing.assert_close(found, nn.functional.cross_entropy(logits.bfloat16(), targets, weight.bfloat16()))


# Cost


@contextmanager
def no_collection():
    """What is freed within is freed by reference counts."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_eight_bytes_an_example():
    count = 10**7
    criterion = DataParameters(num_instances=count)
    assert sum(table.nbytes for table in criterion.buffers()) == 8 * count
    train_step(
        criterion, (torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 3]), torch.tensor([0, 5, count - 1]))
    )
    assert criterion.instance_log_sigma.count_nonzero() == 3


def test_a_step_does_the_same_whatever_the_number_of_examples():
    def events(count):
        criterion = DataParameters(CLASSES, count, clamp=(0.5, 2.0), weight=torch.ones(CLASSES))
        logits, targets, _ = random_batch(0, 64, ignore=-100)
        batch = logits, targets, torch.arange(64)
        train_step(criterion, batch)
        logits.grad = None
        with (
            no_collection(),
            profile(activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=True) as profiled,
        ):
            train_step(criterion, batch)
        return profiled.events()

    few, many = events(10**4), events(10**6)
    # What is freed comes as events of its own on some versions of torch, where it falls between two operators.
    names = [[event.name for event in found if event.name != "[memory]"] for found in (few, many)]
    assert names[0] == names[1]
    assert 0 < max(event.self_cpu_memory_usage for event in many) < 10**5
    whole = {event.name for event in many if [10**6] in event.input_shapes}
    assert whole <= {
        "aten::index",
        "aten::index_put_",
        "aten::_index_put_impl_",
        "aten::as_strided",
    }  # the last, a view


@pytest.mark.parametrize("num_classes", [None, CLASSES])
def test_a_loss_without_a_backward_pass_leaves_nothing_behind(num_classes):
    criterion = DataParameters(num_classes, INSTANCES)
    with no_collection():
        logits, targets, indices = random_batch(0, 8)
        sigma = criterion.temperatures(targets, indices)
        loss = criterion(logits, targets, indices)
        held = [weakref.ref(tensor) for tensor in (sigma, loss, logits)]
        del sigma, loss, logits
        assert [reference() for reference in held] == [None] * 3


def test_warns_of_a_forgotten_step():
    criterion = moved()
    for _ in range(100):
        criterion(*random_batch(0, 4)).backward()
    with pytest.warns(UserWarning, match="100 backward passes without a step"):
        criterion(*random_batch(0, 4)).backward()
    criterion(*random_batch(0, 4)).backward()  # and once is enough


@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, where its code is cut in two
def test_a_compiled_training_step_does_the_same():
    model, criterion, expected = nn.Linear(3, CLASSES), moved(), moved()
    _, targets, indices = random_batch(0, 8)

    def train(target):
        target(model(torch.ones(8, 3)), targets, indices).backward()
        target.step()

    compiled = torch.compile(train, backend="eager")
    for _ in range(2):
        compiled(criterion)
        train(expected)
    assert_same_bits(tables(criterion), tables(expected))
