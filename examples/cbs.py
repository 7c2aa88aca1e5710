"""Curriculum by smoothing: feature maps are smoothed by a Gaussian that becomes narrower from epoch to epoch."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lerac_fast import CBS
from lerac_fast.optim import SGD

EPOCHS = 8


def main() -> float:
    torch.manual_seed(0)
    patterns = torch.randn(10, 1, 8, 8)  # ten classes: patterns in noise
    labels = torch.arange(2000) % 10
    images = patterns[labels] + torch.randn(2000, 1, 8, 8)
    loader = DataLoader(TensorDataset(images[:1000], labels[:1000]), batch_size=50, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )

    optimizer = SGD(model.parameters(), lr=0.02, momentum=0.9)
    smoothing = CBS(model, sigma=1.0, decay=0.7, every=1)
    print(f"smoothed: {', '.join(smoothing.sites)}; after epoch {smoothing.retires_at} it costs nothing")
    for epoch in range(EPOCHS):
        sigma = smoothing.sigma
        for batch, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch), targets)
            loss.backward()
            optimizer.step()
        smoothing.step()  # once per epoch
        print(f"epoch {epoch + 1}: sigma {sigma:.3f}, last loss {loss.item():.3f}")

    model.eval()
    accuracy = (model(images[1000:]).argmax(1) == labels[1000:]).float().mean().item()
    print(f"accuracy on 1000 new images: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
