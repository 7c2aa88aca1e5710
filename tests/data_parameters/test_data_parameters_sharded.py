"""DataParameters whose tables are in parts: the bits of whole tables, and errors that reach every rank."""

import copy
import math
import pickle
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.tensor import DTensor, Shard

from lerac_fast import DataParameters
from lerac_fast.data_parameters.detection import anchor_temperatures
from tests.data_parameters.batches import CLASSES, INSTANCES, Batch, assert_same_bits, random_batch
from tests.optim.distributed.tensors import collectives, full
from tests.processes import Processes


def pair(count: int = INSTANCES, **options: Any) -> tuple[DataParameters, DataParameters]:
    """In parts, and whole; with temperatures of classes if not told otherwise."""
    options = {"num_classes": CLASSES, "weight_decay": 0.05, "ignore_index": -1, **options}
    return DataParameters(num_instances=count, shard=True, **options), DataParameters(num_instances=count, **options)


def whole_tables(criterion: DataParameters) -> dict[str, Tensor]:
    return {name: full(table).clone() for name, table in criterion.state_dict().items()}


def assert_same(sharded: DataParameters, whole: DataParameters) -> None:
    assert_same_bits(whole_tables(sharded), whole_tables(whole))


def batch_of(step: int, examples: int, count: int = INSTANCES, passes: int = 0) -> Batch:
    """Of this rank: indices of the ranks overlap, and every fourth example is ignored."""
    logits, targets, indices = random_batch(1000 * step + 10 * passes + dist.get_rank(), examples, ignore=-1)
    return logits, targets, indices % count


def train(criterion: DataParameters, step: int, count: int = INSTANCES, examples: int = 7) -> None:
    criterion(*batch_of(step, examples, count)).backward()
    criterion.step()


def trained(criteria: tuple[DataParameters, DataParameters]) -> tuple[DataParameters, DataParameters]:
    for criterion in criteria:
        for step in range(3):
            train(criterion, 100 + step, criterion.num_instances)
    return criteria


# The same bits as whole tables

# Examples of each backward pass, of ranks 0 and 2, and of 1 and 3: [step][rank % 2][pass].
STEPS = [
    [[8], [8]],
    [[3], [7]],  # unequal
    [[0], [5]],  # an empty batch
    [[1], [6]],  # one of an ignored example alone
    [[3, 7], [5, 0]],
    [[0], [0]],
    [[], []],
    [[6], [2]],
]
OPTIONS: dict[str, dict[str, Any]] = {
    "both": {},
    "instance": {"num_classes": None, "momentum": 0.7},
    "batch mean": {"class_gradient": "batch_mean"},
    "clamp": {"clamp": (0.05, 1.1), "instance_lr": 3.0},
    "weights": {"weight": torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0]), "label_smoothing": 0.1},
}


def _train_both(rank: int, options: dict[str, Any], count: int) -> None:
    criteria = pair(count, **options)
    for step, passes in enumerate(STEPS):
        results = []
        for criterion in criteria:
            found = []
            for i, examples in enumerate(passes[rank % 2]):
                batch = batch_of(step, examples, count, i)
                loss = criterion(*batch)
                (loss * math.nan if step == 3 and rank == 1 else loss).backward()
                found += [loss.detach(), batch[0].grad]
            criterion.step()
            found.append(criterion.sigma(batch_of(step, 5)[1].relu(), batch_of(step, 5, count)[2]))
            results.append(found)
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        assert_same(*criteria)
    lengths = [len(part) for part in torch.arange(count).chunk(dist.get_world_size())] + [0] * dist.get_world_size()
    for table in (criteria[0].instance_log_sigma, criteria[0].instance_momentum):
        assert isinstance(table, DTensor)
        assert table.placements == (Shard(0),)
        assert len(table.to_local()) == lengths[rank]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_two_ranks(two: Processes, options: dict[str, Any]) -> None:
    two.run(_train_both, options, INSTANCES - 1)


@pytest.mark.parametrize("count", [10, 9, 1], ids=["uneven", "an empty part", "parts of one rank"])
def test_four_ranks(four: Processes, count: int) -> None:
    four.run(_train_both, {}, count)


def _scaled(rank: int) -> None:
    """A loss that is infinite on one rank, in the second step: its gradients are not finite after the exchange."""
    criteria = pair()
    for criterion in criteria:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(3):
            loss = criterion(*batch_of(step, 6))
            scaler.scale(loss * math.inf if (step, rank) == (1, 0) else loss).backward()
            before = whole_tables(criterion)
            criterion.step(scaler)
            if step == 1:
                assert_same_bits(whole_tables(criterion), before)
    assert_same(*criteria)


def test_loss_scaling(two: Processes) -> None:
    two.run(_scaled)


def _changed_and_dropped(_: int) -> None:
    criteria = pair()
    for criterion in criteria:
        train(criterion, 0)
        criterion.instance_lr, criterion.clamp = 0.7, (0.5, 2.0)
        criterion(*batch_of(1, 9)).backward()
        criterion.zero_grad()
        train(criterion, 2)
        criterion.half()
        train(criterion, 3)
    assert_same(*criteria)
    assert criteria[0].instance_log_sigma.dtype == torch.float32


def test_rates_and_bounds_are_read_anew_and_casts_do_nothing(two: Processes) -> None:
    two.run(_changed_and_dropped)


def _detection(rank: int) -> None:
    """The boxes of images; one rank has an image without any."""
    criteria = pair(num_classes=None, momentum=0.0, weight_decay=0.0)
    sigmas = []
    for criterion in trained(criteria):
        boxes = torch.tensor([3, 7, 3] if rank == 0 else [], dtype=torch.int64)
        sigma = anchor_temperatures(
            criterion, [{"indices": boxes, "labels": torch.ones_like(boxes)}], [torch.tensor([0, -1, 2, 1])[: 1 + rank]]
        )
        if rank == 0:
            (sigma * 3.0).sum().backward()
        criterion.step()
        sigmas.append(sigma.detach())
    assert torch.equal(*sigmas)
    assert_same(*criteria)


def test_boxes_of_detectors(two: Processes) -> None:
    two.run(_detection)


# Errors


def _bad_batches(rank: int) -> None:
    """One rank has a batch that cannot be; the others have good ones. Then all go on."""
    sharded, whole = trained(pair())
    logits, targets, indices = batch_of(0, 6)
    classes = targets.relu()

    def good() -> Tensor:
        return sharded(logits, targets, indices)

    bad: dict[str, Callable[[], object]] = {
        f"from 0 to {INSTANCES - 1}, not {INSTANCES}": lambda: sharded(logits, targets, indices * 0 + INSTANCES),
        "indices must be from 0 to 11, not -1": lambda: sharded(logits, targets, indices * 0 - 1),
        "targets must be from 0 to 4, not 7": lambda: sharded(logits, targets * 0 + 7, indices),
        "indices must be int64": lambda: sharded(logits, targets, indices.int()),
        "indices are missing": lambda: sharded(logits, targets),
        "5 indices do not match 6 targets": lambda: sharded(logits, targets, indices[1:]),
        "logits must be a tensor, not NoneType": lambda: sharded(None, targets, indices),
        "targets are missing": lambda: sharded.temperatures(indices=indices),
        "indices must be a tensor, not list": lambda: sharded.sigma(classes, [1]),
        "'indices' are missing": lambda: anchor_temperatures(sharded, [{"labels": classes}], [indices]),
    }
    for message, refused in bad.items():
        good()
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            (refused if rank == 1 else good)()
        assert ("rank 1 has refused its batch" in str(caught.value)) == (rank != 1)
    with pytest.raises(ValueError, match=f"not {INSTANCES + rank}"):  # each rank its own
        sharded(logits, targets, indices * 0 + INSTANCES + rank)
    assert_same(sharded, whole)
    for criterion in (sharded, whole):
        train(criterion, 3)
    assert_same(sharded, whole)


def test_a_batch_that_one_rank_refuses_raises_on_all(two: Processes) -> None:
    two.run(_bad_batches)


def _disagreement(rank: int) -> None:
    sharded, whole = trained(pair())
    sharded(*batch_of(0, 4)).backward()
    with pytest.raises(ValueError, match=r"rank 0 asks for the temperatures of a batch, and rank 1 is in step\(\)"):
        sharded.step() if rank == 1 else sharded(*batch_of(1, 4))
    whole(*batch_of(0, 4)).backward()
    for criterion in (sharded, whole):
        criterion.step()  # with the gradients from before
    assert_same(sharded, whole)
    other = DataParameters(num_instances=20 + rank, shard=True)
    logits, targets, indices = batch_of(0, 4)
    with pytest.raises(ValueError, match="rank 0 has num_instances=20, and rank 1 has num_instances=21"):
        other(logits, targets.relu(), indices)
    for classes, theirs in ((None, 3), (2, 3)):
        other = DataParameters(theirs if rank else classes, 20, shard=True)
        with pytest.raises(ValueError, match=f"rank 0 has num_classes={classes}, and rank 1 has num_classes=3"):
            other(logits[:, : other.num_classes], targets.relu() * 0, indices)


def test_ranks_that_do_different_things_all_raise(two: Processes) -> None:
    two.run(_disagreement)


def test_without_processes_there_is_nothing_to_share() -> None:
    with pytest.raises(RuntimeError, match=r"init_process_group first"):
        DataParameters(num_instances=3, shard=True)
    with pytest.raises(ValueError, match="give num_instances"):
        DataParameters(num_classes=3, shard=True)
    with pytest.raises(TypeError, match="shard must be True or False, not 'rows'"):
        DataParameters(num_instances=3, shard="rows")  # type: ignore[arg-type]


# What travels


def _begun(function: Callable[[], object]) -> int:
    before = collectives()
    function()
    return collectives() - before


def _collectives(_: int) -> None:
    sharded, whole = pair()
    batch = batch_of(0, 6)
    losses: list[Tensor] = []
    assert _begun(lambda: losses.append(whole(*batch))) == 0
    assert _begun(lambda: losses.append(sharded(*batch))) == 3
    assert _begun(lambda: [loss.backward() for loss in losses]) == 0
    assert _begun(whole.step) == 2
    assert _begun(whole.step) == 1  # with nothing to step
    assert _begun(sharded.step) == 3 + 2  # the latter for the classes
    assert _begun(lambda: whole.sigma(batch[1].relu(), batch[2])) == 0
    for criterion in (whole.eval(), sharded.eval()):
        assert _begun(lambda criterion=criterion: criterion(batch[0], batch[1], None)) == 0
        assert _begun(lambda criterion=criterion: criterion.temperatures(batch[1])) == 0
        assert _begun(lambda criterion=criterion: criterion.instance_sigma) == 0
        with pytest.raises(ValueError, match="targets are missing"):  # told to nobody, as nobody is asked
            criterion.temperatures()
        with pytest.raises(ValueError, match="'indices' are missing"):
            anchor_temperatures(criterion, [{"labels": batch[1]}], [batch[1]])


def test_whole_tables_begin_no_further_collective_and_evaluation_none(two: Processes) -> None:
    two.run(_collectives)


def _bytes(rank: int) -> None:
    examples, ranks, count = 64, dist.get_world_size(), 10**6
    criterion = DataParameters(num_instances=count, shard=True)
    assert criterion.instance_log_sigma.to_local().nbytes == 4 * count / ranks
    logits, targets, _ = random_batch(rank, examples)
    indices = torch.randint(count, (examples,), generator=torch.Generator().manual_seed(rank))
    with mock.patch.object(dist, "all_to_all_single", wraps=dist.all_to_all_single) as sends:
        criterion(logits, targets, indices).backward()
        criterion.step()
    # Twice, what is coming; what is asked for, the answers (to what the others ask), and row, gradient and share.
    announced = 2 * 32 * ranks
    own = examples * (8 + 24)
    assert sum(call.args[1].nbytes for call in sends.mock_calls) <= announced + own + 4 * ranks * examples


def test_what_travels_is_the_rows_of_the_batch(two: Processes) -> None:
    two.run(_bytes)


# Checkpoints and copies


def _state_dicts(_: int) -> None:
    sharded, whole = trained(pair())
    for source in (sharded, whole):
        for target in pair():
            target.load_state_dict(source.state_dict())
            assert_same(target, whole)
            for criterion in (target, copy.deepcopy(target)):
                train(criterion, 7)
            expected = copy.deepcopy(whole)
            train(expected, 7)
            assert_same(target, expected)
    unmade = pair()[0].to("meta")
    unmade.load_state_dict(whole.state_dict(), assign=True)
    assert_same(unmade, whole)
    for criterion in (pickle.loads(pickle.dumps(sharded)), copy.deepcopy(sharded)):
        assert_same(criterion, whole)
        assert repr(criterion) == repr(whole).replace(")", ", shard=True)")
    assert_same(*trained((sharded, whole)))
    before = whole_tables(sharded)
    for source in pair(INSTANCES + 1):
        with pytest.raises(RuntimeError, match="size mismatch for instance_log_sigma"):
            sharded.load_state_dict({**source.state_dict(), "class_log_sigma": before["class_log_sigma"]})
    assert_same_bits(
        {k: v for k, v in whole_tables(sharded).items() if "instance" in k},
        {k: v for k, v in before.items() if "instance" in k},
    )
    torch.testing.assert_close(sharded.instance_sigma.full_tensor(), whole.instance_sigma, rtol=0, atol=0)


def test_states_of_whole_tables_and_of_parts_fit_each_other(two: Processes) -> None:
    two.run(_state_dicts)


def _full_state_dicts(_: int) -> None:
    sharded, whole = trained(pair())
    for source in (sharded, whole):
        for broadcast in (False, True):
            options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=broadcast)
            state = get_model_state_dict(source, options=options)
            if broadcast and dist.get_rank() > 0:
                state = {}
            for target in pair():
                set_model_state_dict(target, dict(state), options=options)  # which writes into what it is given
                assert_same(target, whole)


def test_full_state_dicts(two: Processes) -> None:
    two.run(_full_state_dicts)


def _save(_: int, folder: str) -> dict[str, Tensor]:
    """Parts and whole tables, with an empty part in the case of four ranks."""
    sharded, whole = trained(pair(9))
    for name, criterion in (("sharded", sharded), ("whole", whole)):
        checkpoint.save({"criterion": criterion.state_dict()}, checkpoint_id=f"{folder}/{name}")
    return whole_tables(whole)


def _load(_: int, folder: str, expected: dict[str, Tensor]) -> None:
    for name in ("sharded", "whole"):
        for criterion in pair(9):
            state = {"criterion": criterion.state_dict()}
            checkpoint.load(state, checkpoint_id=f"{folder}/{name}")
            criterion.load_state_dict(state["criterion"])
            assert_same_bits(whole_tables(criterion), expected)
    criteria = pair(9)
    for criterion in criteria:
        criterion.load_state_dict(expected)
        train(criterion, 7, 9)
    assert_same(*criteria)


@pytest.mark.parametrize("fewer_first", [True, False])
def test_files_saved_on_some_ranks_and_loaded_on_others(two: Processes, four: Processes, fewer_first: bool) -> None:
    first, second = (two, four) if fewer_first else (four, two)
    with tempfile.TemporaryDirectory() as folder:
        second.run(_load, folder, first.run(_save, folder)[0])
