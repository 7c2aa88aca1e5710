"""Lightning steps LeRaC after each step of the optimizer, logs a rate per layer, and goes on from a checkpoint.

    python examples/trainers/lightning_module.py runs/lightning

Seen to run with torch 2.14.1 and lightning 2.6.6 on a CPU.
"""

import sys

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import AdamW


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))

    def training_step(self, batch, _):
        self.log("loss", loss := (self.layers(batch[0]) - batch[1]).square().mean())
        return loss

    def configure_optimizers(self):
        optimizer = AdamW(layer_groups(self.layers, example_inputs=torch.zeros(2, 16)), lr=1e-2)
        curriculum = LeRaC(optimizer, total_iters=20, min_lr=1e-6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": curriculum, "interval": "step"}}  # not "epoch"


def train(folder: str, checkpoint: str | None) -> float:
    torch.manual_seed(0)
    module, inputs = Module(), torch.randn(320, 16)
    data = TensorDataset(inputs, inputs[:, :4].sum(1, keepdim=True).tanh())
    saving = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer = lightning.Trainer(
        max_epochs=4,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        callbacks=[saving, LearningRateMonitor("step")],
        logger=CSVLogger(folder),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size=16), ckpt_path=checkpoint)
    return trainer.callback_metrics["loss"].item()


def main(folder: str) -> list[float]:
    return [train(folder, None), train(folder, f"{folder}/epoch=0.ckpt")]


if __name__ == "__main__":
    print(main(sys.argv[1]))
