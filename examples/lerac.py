"""Training with LeRaC: deeper layers start at lower learning rates, and all are equal after some epochs."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import SGD

EPOCHS, CURRICULUM_EPOCHS = 6, 2


def main() -> float:
    torch.manual_seed(0)
    patterns = torch.randn(10, 1, 8, 8)  # ten classes: patterns in noise
    labels = torch.arange(2000) % 10
    images = patterns[labels] + torch.randn(2000, 1, 8, 8)
    loader = DataLoader(TensorDataset(images[:1000], labels[:1000]), batch_size=50, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    )

    optimizer = SGD(layer_groups(model, example_inputs=images[:2]), lr=0.05, momentum=0.9)
    curriculum = LeRaC(optimizer, total_iters=CURRICULUM_EPOCHS * len(loader), min_lr=1e-5)
    for epoch in range(EPOCHS):
        rates = ", ".join(f"{group['lr']:.1e}" for group in optimizer.param_groups)
        for batch, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch), targets)
            loss.backward()
            optimizer.step()
            curriculum.step()  # once per step of the optimizer
        print(f"epoch {epoch + 1}: rates at its start {rates}; last loss {loss.item():.3f}")

    accuracy = (model(images[1000:]).argmax(1) == labels[1000:]).float().mean().item()
    print(f"accuracy on 1000 new images: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
