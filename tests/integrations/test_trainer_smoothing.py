"""CBS in transformers' Trainer: an epoch's width in its training and its evaluation, also after it was resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integrations.smoothed import EPOCHS, IMAGES, Net, per_epoch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from lerac_fast.integrations.transformers import SmoothingCallback  # noqa: E402


def train(folder: Path, resume: int | None = None) -> Net:
    model = Net()
    data = [{"images": image, "labels": number % 2} for number, image in enumerate(IMAGES)]
    arguments = transformers.TrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=4,
        eval_strategy="epoch",
        per_device_eval_batch_size=12,
        save_steps=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    parts: dict[str, Any] = {"train_dataset": data, "eval_dataset": data}
    trainer = transformers.Trainer(model, arguments, callbacks=[SmoothingCallback(model.smoothing[0])], **parts)
    trainer.train(resume_from_checkpoint=None if resume is None else str(folder / f"checkpoint-{resume}"))
    return model


def test_the_widths_of_a_plain_loop(tmp_path: Path) -> None:
    model = train(tmp_path)
    assert model.seen == {"training": per_epoch(3), "evaluation": per_epoch(1)}


@pytest.mark.parametrize("step", [4, 6], ids=["within an epoch", "at its end"])
def test_a_checkpoint_goes_on(tmp_path: Path, step: int) -> None:
    model, resumed = train(tmp_path), train(tmp_path, step)
    assert resumed.seen == {"training": model.seen["training"][step:], "evaluation": per_epoch(1, step // 3)}
    for value, expected in zip(resumed.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(value, expected)
