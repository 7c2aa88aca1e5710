"""CBS in Lightning: an epoch's width in its training and its validation, also after it was resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tests.integrations.lightning_marks import EXISTING_CHECKPOINTS, LIGHTNING
from tests.integrations.smoothed import EPOCHS, IMAGES, WIDTHS, Net, per_epoch

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

from lerac_fast.integrations.lightning import SmoothingCallback  # noqa: E402

pytestmark = [*LIGHTNING, EXISTING_CHECKPOINTS]


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss: Tensor = self.net(*batch)["loss"]
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.net(*batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_of(folder: Path, module: Module) -> Any:
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        callbacks=[
            SmoothingCallback(module.net.smoothing[0]),
            ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=2),
        ],
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader(batch_size: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES, torch.arange(len(IMAGES)) % 2), batch_size)


def train(folder: Path, step: int | None = None) -> Module:
    module = Module()
    checkpoint = None if step is None else str(folder / f"step={step}.ckpt")
    trainer_of(folder, module).fit(module, loader(4), loader(12), ckpt_path=checkpoint)
    return module


def test_the_widths_of_a_plain_loop(tmp_path: Path) -> None:
    module = train(tmp_path)
    assert module.net.seen == {"training": per_epoch(3), "evaluation": per_epoch(1)}


def test_a_checkpoint_goes_on(tmp_path: Path) -> None:
    """Of the end of an epoch, where Lightning leaves out the hook of the next one's beginning."""
    module, resumed = train(tmp_path), train(tmp_path, 6)
    assert resumed.net.seen == {"training": per_epoch(3, 2), "evaluation": per_epoch(1, 2)}
    for value, expected in zip(resumed.state_dict().values(), module.state_dict().values(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_a_checkpoint_within_an_epoch_has_its_width(tmp_path: Path) -> None:
    module, resumed = train(tmp_path), train(tmp_path, 4)
    assert resumed.net.seen["training"] == module.net.seen["training"][4:]


def test_a_checkpoint_is_validated_with_its_width(tmp_path: Path) -> None:
    train(tmp_path)
    module = Module()
    trainer_of(tmp_path, module).validate(module, loader(12), ckpt_path=str(tmp_path / "step=8.ckpt"), verbose=False)
    assert module.net.seen["evaluation"] == [WIDTHS[2]]
