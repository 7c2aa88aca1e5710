"""timm makes the optimizer by its name, with layer decay, and LeRaC runs beside timm's cosine schedule.

    python examples/trainers/timm_registry.py

Seen to run with torch 2.14.1 and timm 1.0.31 on a CPU.
"""

import timm
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3, NativeScaler

from lerac_fast import LeRaC
from lerac_fast.integrations.timm import register

STEPS = 40


def main() -> list[float]:
    torch.manual_seed(0)
    patterns = torch.randn(4, 3, 32, 32)  # four classes: patterns in noise
    labels = torch.arange(16) % 4
    model = timm.create_model("test_vit", num_classes=4, img_size=32)
    average, scaler = ModelEmaV3(model, decay=0.9), NativeScaler("cpu")

    register()  # "leracadamw" and others; write them without an underscore
    optimizer = create_optimizer_v2(model, "leracadamw", lr=2e-3, weight_decay=0.05, layer_decay=0.9)
    schedule = CosineLRScheduler(optimizer, STEPS, warmup_t=4, t_in_epochs=False)
    scales = sorted({group["lr_scale"] for group in optimizer.param_groups})
    for group in optimizer.param_groups:
        group["depth"] = scales.index(group["lr_scale"])  # timm has two groups for a layer, with and without decay
    curriculum = LeRaC(optimizer, total_iters=10, min_lr=1e-6)  # after timm's scheduler, which sets the rates
    for step in range(STEPS):
        loss = F.cross_entropy(model(patterns[labels] + torch.randn(16, 3, 32, 32)), labels)
        optimizer.zero_grad()
        scaler(loss, optimizer, clip_grad=0.1, clip_mode="agc", parameters=model.parameters())
        average.update(model)
        curriculum.step()
        with curriculum.base_rates():
            schedule.step_update(step + 1)
        if step % 5 == 4:
            print(f"step {step + 1}: loss {loss.item():.3f}, rates {curriculum.summary()}")

    images = patterns[labels] + torch.randn(16, 3, 32, 32)
    return [(m(images).argmax(1) == labels).float().mean().item() for m in (model.eval(), average.module)]


if __name__ == "__main__":
    print(main())
