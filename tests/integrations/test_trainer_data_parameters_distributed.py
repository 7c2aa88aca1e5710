"""transformers' Trainer with DataParameters in two processes: temperatures are those of one with whole batches."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from tests.integrations.launching import set_environment
from tests.integrations.test_trainer_data_parameters import (
    ACCUMULATED,
    CLASSES,
    EPOCHS,
    Recording,
    build,
    examples,
    make,
    optimizer_of,
    with_indices,
)
from tests.processes import Processes

EXAMPLES, BATCH = 16, 2


def train(rank: int, folder: Path, shard: bool, resume: str | None) -> tuple[list[Tensor], Tensor, Tensor]:
    """What the rank has seen, and the temperatures of classes and examples that it ends with."""
    from accelerate.state import AcceleratorState, GradientState

    set_environment(rank, distributed.get_world_size())
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    criterion = Recording(num_classes=CLASSES, num_instances=EXAMPLES, shard=shard)
    data = with_indices(examples()[:EXAMPLES])
    trainer = make(folder, criterion, data, per_device_train_batch_size=BATCH, save_steps=3, logging_strategy="no")
    trainer.train(resume_from_checkpoint=resume)
    temperatures = criterion.instance_sigma
    return criterion.seen, criterion.class_sigma, temperatures.full_tensor() if shard else temperatures


def plain(batches: list[Tensor]) -> Recording:
    model, criterion, data = build().train(), Recording(num_classes=CLASSES, num_instances=EXAMPLES), examples()
    optimizer, curriculum = optimizer_of(model)
    for number, indices in enumerate(batches, 1):
        ids = torch.stack([data[index]["input_ids"] for index in indices])
        labels = torch.tensor([data[index]["labels"] for index in indices])
        (criterion(model(input_ids=ids).logits, labels, indices) / ACCUMULATED).backward()
        if number % ACCUMULATED == 0:
            optimizer.step()
            criterion.step()
            curriculum.step()
            optimizer.zero_grad()
    return criterion


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "in parts"])
def test_as_one_process_and_resumed(two: Processes, tmp_path: Path, shard: bool) -> None:
    whole = two.run(train, tmp_path, shard, None)
    (batches, classes, sigma), (others, *theirs) = whole
    assert all(torch.equal(a, b) for a, b in zip((classes, sigma), theirs, strict=True))
    assert len(batches) == EPOCHS * EXAMPLES // (2 * BATCH)
    expected = plain([torch.cat(both) for both in zip(batches, others, strict=True)])
    torch.testing.assert_close(classes, expected.class_sigma, rtol=1e-5, atol=0)
    torch.testing.assert_close(sigma, expected.instance_sigma, rtol=1e-5, atol=0)
    assert sigma.std() > 1e-3

    for of_rank, straight in zip(two.run(train, tmp_path, shard, str(tmp_path / "checkpoint-3")), whole, strict=True):
        assert len(of_rank[0]) == len(straight[0]) - 3 * ACCUMULATED
        assert all(torch.equal(a, b) for a, b in zip(of_rank[1:], straight[1:], strict=True))
