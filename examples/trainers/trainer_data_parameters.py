"""transformers' Trainer with a temperature for every example: those with wrong labels become hot.

    python examples/trainers/trainer_data_parameters.py runs/noisy

Seen to run with torch 2.14.1 and transformers 5.24 on a CPU.
"""

import sys

import torch
from torch import nn
from transformers import TrainingArguments

from lerac_fast import DataParameters, LeRaC, layer_groups, with_indices
from lerac_fast.integrations.transformers import DataParametersTrainer
from lerac_fast.optim import AdamW

EXAMPLES, WRONG = 1000, 0.4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))

    def forward(self, images):
        return {"logits": self.layers(images)}


def main(folder: str) -> tuple[float, float]:
    """Returns the accuracy on new images, and the share of wrong labels among the examples with the highest sigma."""
    torch.manual_seed(0)
    patterns = torch.randn(10, 1, 8, 8)  # ten classes: patterns in noise
    right = torch.arange(2 * EXAMPLES) % 10
    images = patterns[right] + torch.randn(2 * EXAMPLES, 1, 8, 8)
    is_wrong = torch.rand(EXAMPLES) < WRONG
    labels = torch.where(is_wrong, (right[:EXAMPLES] + torch.randint(1, 10, (EXAMPLES,))) % 10, right[:EXAMPLES])
    data = [{"images": image, "labels": int(label)} for image, label in zip(images, labels, strict=False)]

    model = Net()
    optimizer = AdamW(layer_groups(model, example_inputs=images[:2]), lr=5e-3)
    curriculum = LeRaC(optimizer, total_iters=40, min_lr=1e-6)
    criterion = DataParameters(num_instances=EXAMPLES, instance_lr=8.0, clamp=(1 / 20, 20))
    arguments = TrainingArguments(
        folder, num_train_epochs=20, per_device_train_batch_size=25, gradient_accumulation_steps=2,
        save_steps=200, logging_steps=100, dataloader_pin_memory=False, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    trainer = DataParametersTrainer(
        model, arguments, train_dataset=with_indices(data), criterion=criterion, optimizers=(optimizer, curriculum)
    )
    trainer.train()
    hottest = criterion.instance_sigma.argsort(descending=True)[: int(is_wrong.sum())].cpu()
    found = is_wrong[hottest].float().mean().item()
    tested = images[EXAMPLES:].to(arguments.device)
    return (model(tested)["logits"].argmax(1).cpu() == right[EXAMPLES:]).float().mean().item(), found


if __name__ == "__main__":
    print(main(sys.argv[1]))
