"""DataParameters: loss and update against a float64 reference, and which rows of the tables move."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lerac_fast import DataParameters, tempered_cross_entropy
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
from tests.reference import data_parameters as reference

reproducible = settings(derandomize=True)

JOINT = {"num_classes": CLASSES, "num_instances": INSTANCES}
CASES = {
    "class": {"num_classes": CLASSES, "weight_decay": 0.05},
    "class, averaged over the batch": {"num_classes": CLASSES, "class_gradient": "batch_mean", "weight_decay": 0.05},
    "instance": {"num_instances": INSTANCES, "weight_decay": 0.05, "momentum": 0.7},
    "instance, as for detection": {"num_instances": INSTANCES, "momentum": 0.0, "weight_decay": 0.0},
    "joint": {**JOINT},
    "joint, averaged over the batch": {**JOINT, "class_gradient": "batch_mean", "weight_decay": 0.02},
    "joint, unequal rates": {**JOINT, "class_lr": 0.03, "instance_lr": 3.0, "weight_decay": 0.1, "momentum": 0.5},
    "clamp": {**JOINT, "clamp": (0.9, 1.1), "class_lr": 0.5},
    "label smoothing": {**JOINT, "label_smoothing": 0.2},
    "class weights": {**JOINT, "weight": [0.2, 1.0, 3.0, 0.5, 2.0], "weight_decay": 0.05},
    "ignore_index": {**JOINT, "ignore_index": -1, "weight_decay": 0.05},
    "a class is ignored": {**JOINT, "ignore_index": 2, "weight": [0.2, 1.0, 3.0, 0.5, 2.0]},
}


# Loss and update


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_matches_the_reference_over_several_steps(options):
    criterion, expected = with_reference(**options)
    ignore = options.get("ignore_index")
    for step in range(6):
        # One to three backward passes before each step, of unequal sizes, with indices that occur several times.
        batches = [random_batch(10 * step + i, 4 + 7 * i + step, ignore=ignore) for i in range(step % 3 + 1)]
        for batch in batches:
            loss = criterion(*batch)
            assert loss.item() == pytest.approx(expected.loss(batch), rel=1e-5)
            loss.backward()
        criterion.step()
        expected.step([batches])
        assert_matches(criterion, expected)


def test_the_reference_is_equation_4_of_the_paper():
    for seed in range(5):
        logits, targets, _ = random_batch(seed, 1)
        z, y, sigma = logits[0].tolist(), int(targets), 0.5 + seed
        _, found = reference.example(z, y, sigma, [1.0] * CLASSES, 0.0)
        assert found == pytest.approx(reference.equation_4(z, y, sigma), rel=1e-9)


def test_starts_as_the_paper_says():
    assert torch.equal(DataParameters(num_classes=3).class_sigma, torch.ones(3))
    assert torch.equal(DataParameters(num_instances=3).instance_sigma, torch.ones(3))
    joint = DataParameters(3, 2)
    torch.testing.assert_close(joint.class_sigma, torch.ones(3))
    torch.testing.assert_close(joint.instance_sigma, torch.full((2,), 0.001))
    torch.testing.assert_close(joint.sigma(torch.tensor([0, 2]), torch.tensor([1, 1])), torch.full((2,), 1.001))
    chosen = DataParameters(3, 2, class_sigma=2.0, instance_sigma=0.5)
    torch.testing.assert_close(chosen.sigma(torch.tensor([1]), torch.tensor([1])), torch.tensor([2.5]))
    assert DataParameters(num_classes=3).instance_sigma is DataParameters(num_instances=3).class_sigma is None


@pytest.mark.parametrize("class_gradient", ["class_mean", "batch_mean"])
def test_gradient_of_a_class(class_gradient):
    """Three examples of class 0 and one of class 1, of one gradient each."""
    criterion = DataParameters(2, class_lr=1.0, momentum=0.0, weight_decay=0.0, class_gradient=class_gradient)
    logits = torch.tensor([[1.0, 0.0]]).repeat(4, 1).requires_grad_()
    train_step(criterion, (logits, torch.tensor([0, 0, 0, 1]), None))
    of_one = 1 / (1 + math.e)  # the derivative of the loss for target 0; that for target 1 is -e times as much
    factors = (1, 1) if class_gradient == "class_mean" else (3 / 4, 1 / 4)
    expected = torch.tensor([-of_one * factors[0], of_one * math.e * factors[1]])
    torch.testing.assert_close(criterion.class_log_sigma, expected)


def test_the_loss_has_the_gradient_of_its_logits():
    criterion = moved()
    logits, targets, indices = random_batch(7, 9)
    criterion(logits, targets, indices).backward()
    scaled = logits.detach().div(criterion.sigma(targets, indices).unsqueeze(1)).requires_grad_()
    F.cross_entropy(scaled, targets).backward()
    torch.testing.assert_close(logits.grad, scaled.grad / criterion.sigma(targets, indices).unsqueeze(1))


def test_duplicates_in_a_batch_accumulate():
    logits, targets, _ = random_batch(3, 4)
    indices = torch.tensor([2, 2, 2, 5])
    options = {"momentum": 0.0, "weight_decay": 0.0, "instance_lr": 1.0}
    together, apart = DataParameters(num_instances=6, **options), DataParameters(num_instances=4, **options)
    train_step(together, (logits, targets, indices))
    train_step(apart, (logits, targets, torch.arange(4)))
    torch.testing.assert_close(together.instance_log_sigma[2], apart.instance_log_sigma[:3].sum())
    assert together.instance_log_sigma[5] == apart.instance_log_sigma[3]


def test_passes_over_parts_of_a_batch_are_as_one_over_the_whole():
    logits, targets, indices = random_batch(4, 12)
    whole, parts = moved(), moved()
    train_step(whole, (logits, targets, indices))
    for part in range(3):
        rows = slice(4 * part, 4 * part + 4)
        (parts(logits[rows], targets[rows], indices[rows]) / 3).backward()
    parts.step()
    torch.testing.assert_close(tables(parts), tables(whole))


@pytest.mark.parametrize("class_gradient", ["class_mean", "batch_mean"])
def test_divided_by_the_number_of_passes_they_are_as_one_for_the_model_too(class_gradient):
    """And so for classes that are in some of the parts only, and as often as you like."""
    logits, _, indices = random_batch(4, 12)
    targets = torch.tensor([0, 0, 0, 0, 1, 1, 0, 2, 2, 2, 2, 2])
    whole, parts = (moved(class_gradient=class_gradient) for _ in range(2))
    gradients = []
    for criterion, passes in ((whole, 1), (parts, 3)):
        logits.grad = None
        for rows in torch.arange(12).chunk(passes):
            (criterion(logits[rows], targets[rows], indices[rows]) / passes).backward()
        criterion.step()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(tables(parts), tables(whole))


def test_weight_decay_counts_once_however_many_examples_a_class_has():
    criterion = DataParameters(2, class_sigma=2.0, class_lr=1.0, momentum=0.0, weight_decay=0.1)
    logits = torch.zeros(4, 2, requires_grad=True)  # equal ones have no gradient for sigma
    train_step(criterion, (logits, torch.tensor([0, 0, 0, 1]), None))
    torch.testing.assert_close(criterion.class_log_sigma, torch.full((2,), 0.9 * math.log(2.0)))


def test_options_may_change_between_steps():
    criterion, expected = with_reference(**JOINT)
    for step, (lr, decay, clamp) in enumerate([(0.1, 0.1, None), (0.5, 0.0, (0.8, 1.2)), (0.0, 0.3, None)]):
        for target in (criterion, expected):
            target.class_lr, target.instance_lr, target.weight_decay, target.clamp = lr, 2 * lr, decay, clamp
        batch = random_batch(step, 8)
        train_step(criterion, batch)
        expected.step([[batch]])
        assert_matches(criterion, expected)


# Who moves


@reproducible
@given(
    targets=st.lists(st.integers(-1, CLASSES - 1), min_size=1, max_size=6),
    first=st.integers(0, INSTANCES - 1),
    stride=st.integers(0, 3),
    scale=st.sampled_from([0.0, 1.0]),
    clamp=st.sampled_from([None, (0.5, 0.9)]),
    class_gradient=st.sampled_from(["class_mean", "batch_mean"]),
)
def test_only_rows_in_the_batch_move_and_all_of_them_do(targets, first, stride, scale, clamp, class_gradient):
    criterion = moved(ignore_index=-1, clamp=clamp, class_gradient=class_gradient)
    indices = [(first + stride * n) % INSTANCES for n in range(len(targets))]
    in_batch = {
        "class": {y for y in targets if y >= 0},
        "instance": {i for i, y in zip(indices, targets, strict=True) if y >= 0},
    }
    before = tables(criterion)
    logits = (scale * random_batch(1, len(targets))[0].detach()).requires_grad_()  # 0: no gradient for any sigma
    train_step(criterion, (logits, torch.tensor(targets), torch.tensor(indices)))
    for name, table in tables(criterion).items():
        same = table.view(torch.int32) == before[name].view(torch.int32)
        present = torch.zeros(len(table), dtype=torch.bool)
        present[list(in_batch[name.split("_")[0]])] = True
        assert bool(same[~present].all()), name
        if name.endswith("momentum"):
            assert not bool(same[present].any()), name


def test_a_row_without_a_gradient_decays_and_its_momentum_goes_on():
    criterion = moved()
    before = tables(criterion)
    train_step(
        criterion, (torch.zeros(3, CLASSES, requires_grad=True), torch.tensor([1, 1, 4]), torch.tensor([0, 3, 3]))
    )
    for kind, rows, lr in (("class", [1, 4], 0.1), ("instance", [0, 3], 0.2)):
        log_sigma, momentum = before[f"{kind}_log_sigma"][rows], before[f"{kind}_momentum"][rows]
        expected = 0.9 * momentum + 0.01 * log_sigma
        found = tables(criterion)
        torch.testing.assert_close(found[f"{kind}_momentum"][rows], expected)
        torch.testing.assert_close(found[f"{kind}_log_sigma"][rows], log_sigma - lr * expected)


def test_clamp_is_for_rows_in_the_batch():
    criterion = DataParameters(num_instances=4, instance_sigma=5.0, clamp=(0.5, 2.0))
    train_step(criterion, (torch.zeros(1, 3, requires_grad=True), torch.tensor([0]), torch.tensor([2])))
    torch.testing.assert_close(criterion.instance_sigma, torch.tensor([5.0, 5.0, 2.0, 5.0]))


@pytest.mark.parametrize("ignored", [[-100, -100, -100], []])
def test_a_batch_of_nothing_changes_nothing(ignored):
    criterion = moved()
    before = tables(criterion)
    n = len(ignored)
    logits = torch.randn(n, CLASSES, requires_grad=True)
    train_step(criterion, (logits, torch.tensor(ignored).long(), torch.arange(n)))
    assert_same_bits(tables(criterion), before)


# Where nothing is learned


def test_evaluation_is_the_plain_cross_entropy():
    options = {"label_smoothing": 0.1, "ignore_index": 3, "weight": torch.arange(1.0, CLASSES + 1)}
    criterion = moved(**options).eval()
    logits, targets, indices = random_batch(0, 20)
    before = tables(criterion)
    loss = criterion(logits, targets)  # of other examples than those of training: without indices
    assert torch.equal(loss, F.cross_entropy(logits, targets, **options))
    loss.backward()
    criterion.step()
    assert_same_bits(tables(criterion), before)
    for of_others in (torch.full((20,), 99), indices):
        sigma = criterion.temperatures(indices=of_others)
        assert torch.equal(sigma, torch.ones(20))
        assert not sigma.requires_grad
    assert not torch.equal(criterion.sigma(targets, indices), torch.ones(20))


def test_without_gradients_nothing_is_noted():
    criterion = moved()
    before = tables(criterion)
    logits, targets, indices = random_batch(0, 20)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            loss = criterion(logits, targets, indices)
            torch.testing.assert_close(loss, tempered_cross_entropy(logits, targets, criterion.sigma(targets, indices)))
            assert not criterion.temperatures(targets, indices).requires_grad
    criterion(logits, targets, indices)  # no backward pass
    torch.autograd.grad(criterion(logits, targets, indices), logits)  # for the logits alone
    criterion.step()
    assert_same_bits(tables(criterion), before)
    assert not criterion.sigma(targets, indices).requires_grad


def test_zero_grad_drops_what_was_noted():
    criterion = moved()
    before = tables(criterion)
    criterion(*random_batch(0, 20)).backward()
    criterion.zero_grad()
    criterion.step()
    assert_same_bits(tables(criterion), before)


def test_a_step_is_taken_once():
    criterion = moved()
    train_step(criterion, random_batch(0, 20))
    before = tables(criterion)
    criterion.step()
    assert_same_bits(tables(criterion), before)


def test_the_batch_may_be_written_over_before_the_step():
    batch = random_batch(0, 8)
    expected, criterion = moved(), moved()
    train_step(expected, batch)
    loss = criterion(*batch)
    batch[2].fill_(0)
    loss.backward()
    batch[1].fill_(0)
    criterion.step()
    assert_same_bits(tables(criterion), tables(expected))


# Other losses


def test_temperatures_serve_other_losses():
    """Boxes with a sigma each, anchors that take that of their box, and background that takes the mean."""
    criterion = DataParameters(num_instances=INSTANCES, momentum=0.5, weight_decay=0.01)
    boxes, matched = torch.tensor([7, 3, 5]), torch.tensor([0, 0, 1, -1, -1, 1])  # none has matched box 5
    logits, targets, _ = random_batch(0, len(matched))

    def loss(sigma):
        of_anchor = torch.where(matched >= 0, sigma[matched], sigma.mean())
        return tempered_cross_entropy(logits, targets, of_anchor, reduction="sum") / 4

    log_sigma = torch.zeros(3, dtype=torch.double, requires_grad=True)
    loss(log_sigma.exp()).backward()
    loss(criterion.temperatures(indices=boxes)).backward()
    criterion.step()
    torch.testing.assert_close(criterion.instance_momentum[boxes].double(), log_sigma.grad)
    assert criterion.instance_momentum.count_nonzero() == 3
    before = tables(criterion)
    (criterion.temperatures(indices=torch.tensor([5])) * 0.0).sum().backward()
    criterion.step()
    expected = 0.5 * before["instance_momentum"][5] + 0.01 * before["instance_log_sigma"][5]
    torch.testing.assert_close(criterion.instance_momentum[5], expected)


def test_temperatures_can_do_what_the_criterion_does():
    logits, targets, indices = random_batch(0, 16, ignore=-1)
    expected = moved(ignore_index=-1)
    train_step(expected, (logits, targets, indices))
    counted = targets >= 0
    for examples in (None, 12.0, torch.tensor(12)):
        criterion = moved()
        sigma = criterion.temperatures(targets.clamp(min=0), indices, counted, examples)
        tempered_cross_entropy(logits, targets, sigma, ignore_index=-1).backward()
        criterion.step()
        torch.testing.assert_close(tables(criterion), tables(expected))
