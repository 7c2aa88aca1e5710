"""DataParameters as a part of a LightningModule: a plain loop's bits, with accumulation, also after it was resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lerac_fast import DataParameters, with_indices
from tests.integrations.lightning_marks import EXISTING_CHECKPOINTS, LIGHTNING

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

EPOCHS, BATCH, ACCUMULATED, CLASSES = 3, 4, 2, 3
INPUTS = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
DATA = with_indices(TensorDataset(INPUTS, torch.arange(20) % CLASSES))

pytestmark = [*LIGHTNING, EXISTING_CHECKPOINTS]


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))
        self.criterion = DataParameters(CLASSES, len(DATA), instance_lr=2.0, instance_sigma=1.0)
        self.seen: list[list[int]] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        inputs, targets, indices = batch
        self.seen.append(indices.tolist())
        loss: Tensor = self.criterion(self.layers(inputs), targets, indices)
        return loss

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        self.criterion.step()

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.validated.append(self.criterion(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(folder: Path, checkpoint: str | None = None) -> Module:
    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        accumulate_grad_batches=ACCUMULATED,
        callbacks=[ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)],
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(DATA, BATCH, shuffle=True, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, loader, DataLoader(DATA, len(DATA)), ckpt_path=checkpoint)
    return module


def assert_same(module: nn.Module, other: nn.Module) -> None:
    for value, expected in zip(module.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(value, expected)


def plain(seen: list[list[int]], module: Module | None = None) -> Module:
    """A loop on batches of five an epoch, of which the last is a step of its own, divided like the others by two."""
    module = module or Module()
    optimizer = module.configure_optimizers()
    for number, indices in enumerate(seen, 1):
        batch = [torch.stack(column) for column in zip(*(DATA.dataset[index] for index in indices), strict=True)]
        loss = module.criterion(module.layers(batch[0]), batch[1], torch.tensor(indices))
        (loss / ACCUMULATED).backward()
        if number % 5 in (2, 4, 0):
            optimizer.step()
            module.criterion.step()
            optimizer.zero_grad()
    return module


def test_as_a_plain_loop(tmp_path: Path) -> None:
    module = train(tmp_path)
    assert len(module.seen) == 5 * EPOCHS
    assert_same(module, plain(module.seen))
    assert module.criterion.instance_log_sigma.std() > 1e-3
    expected = nn.functional.cross_entropy(module.layers(INPUTS), DATA.dataset.tensors[1])
    assert module.validated[-1] == pytest.approx(expected.item(), rel=1e-6)


def test_a_checkpoint_goes_on(tmp_path: Path) -> None:
    train(tmp_path)
    resumed = train(tmp_path, str(tmp_path / "epoch=0.ckpt"))
    state: Any = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["state_dict"]
    start = Module()
    start.load_state_dict(state)
    assert len(resumed.seen) == 5 * (EPOCHS - 1)
    assert_same(resumed, plain(resumed.seen, start))
