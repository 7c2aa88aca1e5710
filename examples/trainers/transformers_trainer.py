"""transformers' Trainer makes the optimizer and LeRaC, and goes on from a checkpoint in mid-curriculum.

    python examples/trainers/transformers_trainer.py runs/trainer

Seen to run with torch 2.14.1 and transformers 5.24 on a CPU.
"""

import sys

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import AdamW


class LeRaCTrainer(Trainer):
    def create_optimizer(self, model=None):
        batch = {"input_ids": self.train_dataset[0]["input_ids"][None]}
        groups = layer_groups(model or self.model, example_inputs=batch)
        self.optimizer = AdamW(groups, lr=self.args.learning_rate, weight_decay=self.args.weight_decay)
        return self.optimizer

    def create_scheduler(self, num_training_steps, optimizer=None):
        self.lr_scheduler = LeRaC(optimizer or self.optimizer, total_iters=num_training_steps // 2, min_lr=1e-7)
        return self.lr_scheduler


def train(folder: str, resume: str | None) -> Trainer:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))
    ids = torch.randint(2, 20, (640, 8), generator=torch.Generator().manual_seed(0))
    ids[::2, 0] = 1  # the token to be recognized
    data = [{"input_ids": row, "labels": int(row[0] == 1)} for row in ids]
    arguments = TrainingArguments(
        folder,
        max_steps=20,
        learning_rate=1e-2,
        weight_decay=0.01,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        save_steps=5,
        logging_steps=5,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = LeRaCTrainer(model, arguments, train_dataset=data)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def main(folder: str) -> list[float]:
    whole = train(folder, None)
    resumed = train(folder, f"{folder}/checkpoint-5")
    return [trainer.state.log_history[-2]["loss"] for trainer in (whole, resumed)]


if __name__ == "__main__":
    print(main(sys.argv[1]))
