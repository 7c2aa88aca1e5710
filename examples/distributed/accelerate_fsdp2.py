"""Accelerate with its plugin for FSDP2, gradient accumulation, and a state that is saved in the middle of a curriculum.

    torchrun --nproc-per-node=2 examples/distributed/accelerate_fsdp2.py runs/accelerate
    torchrun --nproc-per-node=2 examples/distributed/accelerate_fsdp2.py runs/accelerate resume

Seen to run with torch 2.14.1 and accelerate 1.15, with 2 processes on a CPU. There it leaves the plugin out, and
the model is replicated. With FSDP2 it ran in a test, for which a CPU was taken for GPUs.
"""

import sys

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import AdamW

CPU = not torch.cuda.is_available()  # Accelerate does not find out by itself where there are several processes


def main(folder: str, resume: bool = False) -> tuple[list[list[float]], float]:
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
    accelerator = Accelerator(cpu=CPU, fsdp_plugin=plugin, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))
    inputs = torch.randn(640, 32)
    data = TensorDataset(inputs, (inputs @ torch.randn(32, 32) / 6).tanh())
    # Before the model is prepared: Accelerate puts the sharded parameters into the groups.
    optimizer = AdamW(layer_groups(model, example_inputs=inputs[:2]), lr=1e-2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, batch_size=16))
    steps_per_epoch = len(loader) // 2  # of the optimizer; the prepared loader has this process's batches
    curriculum = accelerator.prepare(LeRaC(optimizer, total_iters=2 * steps_per_epoch, min_lr=1e-6))
    if resume:
        accelerator.load_state(folder)

    rates, loss = [], torch.zeros(())
    for epoch in range(1 if resume else 0, 3):
        for batch, targets in loader:
            with accelerator.accumulate(model):
                loss = (model(batch) - targets).square().mean()
                accelerator.backward(loss)
                optimizer.step()
                curriculum.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                rates.append(curriculum.get_last_lr())
        accelerator.print(f"epoch {epoch}: loss {loss.item():.3f}, rates {rates[-1]}")
        if epoch == 0:
            accelerator.save_state(folder)
    accelerator.end_training()
    return rates, loss.item()


if __name__ == "__main__":
    main(sys.argv[1], resume=sys.argv[2:] == ["resume"])
