"""FSDP2 with LeRaC, and a checkpoint from which any number of processes can go on.

    torchrun --nproc-per-node=2 examples/distributed/fsdp2.py runs/fsdp2 0 10     # 10 steps
    torchrun --nproc-per-node=4 examples/distributed/fsdp2.py runs/fsdp2 10 30    # goes on

Seen to run with torch 2.14.1 on a CPU, with 2 and 4 processes.
"""

import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

from lerac_fast import LeRaC, layer_groups, layer_order
from lerac_fast.optim import AdamW


def build() -> nn.Sequential:
    return nn.Sequential(*[nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.Tanh()) for _ in range(4)])


def main(folder: str, start: int, end: int) -> float:
    dist.init_process_group("gloo")  # on GPUs "nccl", and the model on the one of this process
    with torch.device("meta"):  # so that a model is measured that no machine holds as a whole
        order = layer_order(build(), example_inputs=torch.empty(2, 32))
    torch.manual_seed(0)
    model, target = build(), torch.randn(32, 32) / 6
    for part in (*model, model):
        fully_shard(part)
    optimizer = AdamW(layer_groups(model, order=order), lr=1e-2)
    curriculum = LeRaC(optimizer, total_iters=20, min_lr=1e-6)
    if start:
        weights, states = get_state_dict(model, optimizer)
        saved = {"model": weights, "optimizer": states, "curriculum": curriculum.state_dict()}
        dcp.load(saved, checkpoint_id=f"{folder}/{start}")
        set_state_dict(model, optimizer, model_state_dict=saved["model"], optim_state_dict=saved["optimizer"])
        curriculum.load_state_dict(saved["curriculum"])

    for step in range(start, end):
        batch = torch.randn(64, 32, generator=torch.Generator().manual_seed(step))
        inputs = batch.chunk(dist.get_world_size())[dist.get_rank()]
        loss = (model(inputs) - (inputs @ target).tanh()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curriculum.step()
    weights, states = get_state_dict(model, optimizer)
    saved = {"model": weights, "optimizer": states, "curriculum": curriculum.state_dict()}
    dcp.save(saved, checkpoint_id=f"{folder}/{end}")
    print(f"rank {dist.get_rank()}, step {end}: loss {loss.item():.3f}, rates {curriculum.get_last_lr()}")
    dist.destroy_process_group()
    return loss.item()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
