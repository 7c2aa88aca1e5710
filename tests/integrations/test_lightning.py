"""Lightning with LeRaC per step and our AdamW: rates are a plain loop's, and a checkpoint goes on to the bit."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lerac_fast.optim
from lerac_fast import LeRaC, layer_groups
from tests.integrations.launching import run_example
from tests.integrations.lightning_marks import LIGHTNING
from tests.lerac.rates import rates, run, sgd

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch import callbacks, loggers  # noqa: E402

K, EPOCHS, STEPS_PER_EPOCH, ACCUMULATED, BATCH = 6, 4, 3, 2, 4
STEPS = EPOCHS * STEPS_PER_EPOCH

pytestmark = LIGHTNING


class Module(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self, optimizer: type[torch.optim.Optimizer] = lerac_fast.optim.AdamW) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
        self.head = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
        self.optimizer_class = optimizer
        self.rates: list[list[float]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.backbone(inputs))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return (self(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer_class(layer_groups(self, example_inputs=torch.zeros(2, 8)), lr=1e-2)
        curriculum = LeRaC(optimizer, K, min_lr=1e-6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": curriculum, "interval": "step"}}

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Once for each step of the optimizer."""
        self.rates.append(rates(optimizer))


def fit(folder: Path, *parts: Any, module: Module | None = None, checkpoint: str | None = None, **more: Any) -> Module:
    module = module or Module()
    inputs = torch.randn(STEPS_PER_EPOCH * ACCUMULATED * BATCH, 8, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(inputs, inputs.sum(1, keepdim=True).tanh())
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=ACCUMULATED,
        gradient_clip_val=0.5,
        default_root_dir=folder,
        callbacks=[*parts],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **({"devices": 1, "logger": False, "enable_checkpointing": False} | more),
    )
    trainer.fit(module, DataLoader(data, batch_size=BATCH // trainer.world_size), ckpt_path=checkpoint)
    return module


def plain_rates(groups: int = 3) -> list[list[float]]:
    optimizer = sgd([1e-2] * groups)
    return run(optimizer, LeRaC(optimizer, K, min_lr=1e-6), STEPS - 1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_as_with_torchs_optimizer(tmp_path: Path, precision: Any) -> None:
    ours = fit(tmp_path, precision=precision)
    torchs = fit(tmp_path, module=Module(torch.optim.AdamW), precision=precision)
    assert ours.rates == torchs.rates == plain_rates()
    inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    tolerance = 1e-5 if precision == "32-true" else 2e-2
    torch.testing.assert_close(ours(inputs), torchs(inputs), rtol=tolerance, atol=tolerance)


def test_the_monitor_of_rates(tmp_path: Path) -> None:
    """It draws a curve for each group, by the names of the groups."""
    logger = loggers.CSVLogger(tmp_path)
    module = fit(tmp_path, callbacks.LearningRateMonitor("step"), logger=logger)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["lr-AdamW/backbone.0"]]
    logged = [[float(row[f"lr-AdamW/{name}"]) for name in ("backbone.0", "head.0", "head.2")] for row in rows]
    assert logged == [pytest.approx(row, rel=1e-6) for row in module.rates for _ in range(ACCUMULATED)]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_checkpoint_goes_on_in_mid_curriculum(tmp_path: Path) -> None:
    def saving() -> Any:
        return callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)

    straight = fit(tmp_path, saving(), enable_checkpointing=True)
    resumed = fit(tmp_path, saving(), enable_checkpointing=True, checkpoint=str(tmp_path / "epoch=0.ckpt"))
    assert straight.rates == plain_rates()
    assert resumed.rates == straight.rates[STEPS_PER_EPOCH:]
    for parameter, expected in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(parameter, expected)


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
def test_weight_averaging_takes_over_from_lerac(tmp_path: Path) -> None:
    module = fit(tmp_path, callbacks.StochasticWeightAveraging(1e-3, swa_epoch_start=3, annealing_epochs=1))
    assert module.rates[: 3 * STEPS_PER_EPOCH] == plain_rates()[: 3 * STEPS_PER_EPOCH]
    assert module.rates[-1] == pytest.approx([1e-3] * 3)


def test_a_backbone_that_is_unfrozen_in_mid_curriculum(tmp_path: Path) -> None:
    unfreezing = callbacks.BackboneFinetuning(1, lambda _: 2.0, backbone_initial_lr=1e-4, should_align=False)
    module = fit(tmp_path, unfreezing)
    assert [row[:2] for row in module.rates] == plain_rates(2)
    backbone = [row[2] for row in module.rates[STEPS_PER_EPOCH:]]
    assert backbone == pytest.approx([1e-4] * 3 + [2e-4] * 3 + [4e-4] * 3)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_example(tmp_path: Path) -> None:
    whole, resumed = run_example("trainers/lightning_module", str(tmp_path))
    assert whole == resumed < 0.15
