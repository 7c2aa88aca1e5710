"""Ray Train: two workers, DistributedDataParallel, LeRaC, and a checkpoint from which another run goes on.

    python examples/distributed/ray_train.py runs/ray

Seen to run with torch 2.14.1 and ray 2.60 on one machine with two CPUs.
"""

import sys
import tempfile
from pathlib import Path

import torch
from ray import train
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import AdamW


def work(config: dict) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))
    target = torch.randn(32, 32) / 6
    model = prepare_model(model)  # before the optimizer: it moves the parameters to the worker's device
    optimizer = AdamW(layer_groups(model, example_inputs=torch.zeros(2, 32)), lr=1e-2)
    curriculum = LeRaC(optimizer, total_iters=20, min_lr=1e-6)
    parts = {"model": model.module, "optimizer": optimizer, "curriculum": curriculum}
    if "checkpoint" in config:
        with config["checkpoint"].as_directory() as folder:
            for name, part in parts.items():
                part.load_state_dict(torch.load(Path(folder, name), weights_only=True))

    rank = train.get_context().get_world_rank()
    for step in range(curriculum.last_epoch, config["steps"]):
        batch = torch.randn(64, 32, generator=torch.Generator().manual_seed(step))
        inputs = batch.chunk(2)[rank]
        loss = (model(inputs) - (inputs @ target).tanh()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curriculum.step()
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items() if rank == 0 else ():
            torch.save(part.state_dict(), Path(folder, name))
        saved = train.Checkpoint.from_directory(folder) if rank == 0 else None
        train.report({"loss": loss.item(), "rates": curriculum.get_last_lr()}, checkpoint=saved)


def main(folder: str) -> None:
    settings, scaling = {}, train.ScalingConfig(num_workers=2)
    for settings["steps"] in (10, 30):  # two runs; the second goes on from the first's checkpoint
        place = train.RunConfig(storage_path=str(Path(folder).resolve()), name=f"{settings['steps']} steps")
        result = TorchTrainer(work, train_loop_config=settings, scaling_config=scaling, run_config=place).fit()
        settings["checkpoint"] = result.checkpoint
        print(settings["steps"], "steps:", result.metrics)


if __name__ == "__main__":
    main(sys.argv[1])
