"""DeepSpeed's ZeRO (stage 1) with LeRaC as its scheduler, and a checkpoint in the middle of the curriculum.

    torchrun --nproc-per-node=2 examples/distributed/deepspeed_zero.py runs/deepspeed
    torchrun --nproc-per-node=2 examples/distributed/deepspeed_zero.py runs/deepspeed resume

Seen to run with torch 2.14.1 and deepspeed 0.19.8 on a CPU, with 2 processes. There DeepSpeed needs a C++ compiler.
"""

import sys

import deepspeed
import torch
import torch.distributed as dist
from torch import nn

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import AdamW

CONFIG = {
    "train_micro_batch_size_per_gpu": 16,
    "gradient_accumulation_steps": 2,
    "gradient_clipping": 1.0,
    "zero_optimization": {"stage": 1},
    "zero_allow_untested_optimizer": True,  # DeepSpeed has a list of optimizers that it takes without this
}


def main(folder: str, resume: bool = False) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))
    target = torch.randn(32, 32) / 6
    optimizer = AdamW(layer_groups(model, example_inputs=torch.zeros(2, 32)), lr=1e-2)
    curriculum = LeRaC(optimizer, total_iters=20, min_lr=1e-6)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, lr_scheduler=curriculum, config=CONFIG, dist_init_required=True
    )
    if resume:
        engine.load_checkpoint(folder)

    loss = torch.zeros(())
    for step in range(engine.global_steps, 30):  # of the optimizer
        for micro in range(2):
            batch = torch.randn(32, 32, generator=torch.Generator().manual_seed(2 * step + micro))
            inputs = batch.chunk(dist.get_world_size())[dist.get_rank()]
            loss = (engine(inputs) - (inputs @ target).tanh()).square().mean()
            engine.backward(loss)
            engine.step()  # with the second of two backward passes it steps the optimizer, and LeRaC
        if engine.global_steps == 10:
            engine.save_checkpoint(folder)
        if engine.global_steps in (15, 30):
            print(f"rank {dist.get_rank()}, step {step + 1}: loss {loss.item():.3f}, rates {engine.get_lr()}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], resume=sys.argv[2:] == ["resume"])
