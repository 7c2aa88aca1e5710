"""DistributedDataParallel with ZeroRedundancyOptimizer: every process keeps and steps its share of the states.

    torchrun --nproc-per-node=2 examples/distributed/zero_redundancy.py

Seen to run with torch 2.14.1 on a CPU, with 2 and 4 processes.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import AdamW


def main() -> float:
    dist.init_process_group("gloo")  # on GPUs "nccl", and the model on the one of this process
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))
    target = torch.randn(32, 32) / 6
    groups = layer_groups(model, example_inputs=torch.zeros(2, 32))
    optimizer = ZeroRedundancyOptimizer(groups, AdamW, lr=1e-2)
    curriculum = LeRaC(optimizer, total_iters=20, min_lr=1e-6)
    model = DistributedDataParallel(model)
    for step in range(40):
        batch = torch.randn(64, 32, generator=torch.Generator().manual_seed(step))
        inputs = batch.chunk(dist.get_world_size())[dist.get_rank()]
        loss = (model(inputs) - (inputs @ target).tanh()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curriculum.step()
    optimizer.consolidate_state_dict(to=0)  # the states of all processes, to be saved by rank 0
    numbers = sum(state.numel() for states in optimizer.optim.state.values() for state in states.values())
    rates = [f"{lr:.1e}" for lr in curriculum.get_last_lr()]
    print(f"rank {dist.get_rank()} has {numbers} numbers in its states; rates {rates}; loss {loss.item():.3f}")
    dist.destroy_process_group()
    return loss.item()


if __name__ == "__main__":
    main()
