"""Fine-tuning with layer-wise decay: the nearer a layer is to the input, the lower its learning rate.

A network learns to tell ten patterns apart, gets a new head, and learns ten others from few examples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lerac_fast import layer_groups
from lerac_fast.optim import AdamW

DECAY = 0.75


def noisy_patterns(seed: int, examples: int) -> tuple[Tensor, Tensor]:
    """Images [examples, 1, 8, 8] of ten patterns in noise, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(10, 1, 8, 8, generator=generator)
    labels = torch.arange(examples) % 10
    return patterns[labels] + torch.randn(examples, 1, 8, 8, generator=generator), labels


def train(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


def main() -> float:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(body, nn.Linear(512, 10))
    train(model, AdamW(model.parameters(), lr=1e-3), *noisy_patterns(0, 2000), steps=30)  # the pre-training

    model[1] = nn.Linear(512, 10)
    images, labels = noisy_patterns(1, 1100)
    groups = layer_groups(model, example_inputs=images[:2])
    deepest = max(group["depth"] for group in groups)
    for group in groups:
        group["lr"] = 1e-3 * DECAY ** (deepest - group["depth"])
    train(model, AdamW(groups), images[:100], labels[:100], steps=30)

    for group in groups:
        print(f"{group['name']:10} rate {group['lr']:.2e}")
    accuracy = (model(images[100:]).argmax(1) == labels[100:]).float().mean().item()
    print(f"accuracy on 1000 new images of the new patterns: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
