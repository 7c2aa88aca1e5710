"""transformers' Trainer with LeRaC and our AdamW: as with torch's, to the bit from a checkpoint in mid-curriculum."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lerac_fast.optim
from lerac_fast import LeRaC, layer_groups
from tests.integrations.launching import run_example
from tests.lerac.rates import rates, run

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

K, STEPS, ACCUMULATED, BATCH = 6, 10, 2, 4
SAVED = K // 2
INPUTS = torch.ones(2, 8, dtype=torch.long)


def examples() -> list[dict[str, Any]]:
    ids = torch.randint(1, 50, (STEPS * ACCUMULATED * BATCH, 8), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": int(row[0] % 2)} for row in ids]


def build() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=8, **sizes)
    return transformers.BertForSequenceClassification(config)


def optimizer_of(model: nn.Module, module: Any) -> torch.optim.Optimizer:
    """The AdamW of torch.optim or of lerac_fast.optim."""
    groups = layer_groups(
        model, example_inputs={"input_ids": INPUTS}, options=lambda _, p: {"weight_decay": 0.0} if p.ndim < 2 else None
    )
    return module.AdamW(groups, lr=1e-2, weight_decay=0.1)


def curriculum(optimizer: torch.optim.Optimizer) -> LeRaC:
    return LeRaC(optimizer, K, min_lr=1e-7)


class OurTrainer(transformers.Trainer):  # type: ignore[misc]
    """Makes the optimizer and LeRaC itself, when the training begins."""

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        self.optimizer = self.optimizer or optimizer_of(model or self.model, lerac_fast.optim)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LeRaC:
        assert num_training_steps == STEPS
        self.lr_scheduler = self.lr_scheduler or curriculum(optimizer or self.optimizer)
        return self.lr_scheduler


class Seen(transformers.TrainerCallback):  # type: ignore[misc]
    """The rates of each step of the optimizer."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_pre_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
        self.rates.append(rates(optimizer))


def train(folder: Path, module: Any = None, resume: str | None = None, **more: Any) -> tuple[nn.Module, list]:
    """With the optimizer of `module`, passed in; without, as `OurTrainer` makes it."""
    model, seen = build(), Seen()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        gradient_accumulation_steps=ACCUMULATED,
        per_device_train_batch_size=BATCH,
        max_grad_norm=0.5,
        save_steps=SAVED,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **more,
    )
    kind, options = OurTrainer, {}
    if module is not None:
        optimizer = optimizer_of(model, module)
        kind, options = transformers.Trainer, {"optimizers": (optimizer, curriculum(optimizer))}
    trainer = kind(model, arguments, train_dataset=examples(), callbacks=[seen], **options)
    trainer.train(resume_from_checkpoint=resume)
    return model.eval(), seen.rates


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(torch.stack([example["input_ids"] for example in examples()])).logits


def plain_rates() -> list[list[float]]:
    optimizer = optimizer_of(build(), torch.optim)
    return run(optimizer, curriculum(optimizer), STEPS - 1)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_passed_in(tmp_path: Path, bf16: bool) -> None:
    ours, rates_of_ours = train(tmp_path / "ours", lerac_fast.optim, bf16=bf16)
    torchs, rates_of_torchs = train(tmp_path / "torch", torch.optim, bf16=bf16)
    assert rates_of_ours == rates_of_torchs == plain_rates()
    # In bf16 the least differences of weights round to others in the next pass.
    tolerance = 2e-2 if bf16 else 1e-4
    torch.testing.assert_close(outputs(ours), outputs(torchs), rtol=tolerance, atol=tolerance)
    assert outputs(ours).std() > 0.1


def test_created_by_the_trainer_and_resumed(tmp_path: Path) -> None:
    model, seen = train(tmp_path)
    resumed, seen_later = train(tmp_path, resume=str(tmp_path / f"checkpoint-{SAVED}"))
    assert seen == plain_rates()
    assert seen_later == seen[SAVED:]
    assert torch.equal(outputs(model), outputs(resumed))


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set")
def test_the_example(tmp_path: Path) -> None:
    whole, resumed = run_example("trainers/transformers_trainer", str(tmp_path))
    assert whole == resumed < 0.1
