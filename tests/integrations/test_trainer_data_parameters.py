"""transformers' Trainer with DataParameters: a plain loop's bits, with accumulation and loaders that prefetch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lerac_fast import DataParameters, LeRaC, layer_groups, with_indices
from lerac_fast.optim import AdamW
from tests.integrations.launching import run_example

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from lerac_fast.integrations.transformers import DataParametersTrainer  # noqa: E402

EXAMPLES, BATCH, ACCUMULATED, EPOCHS, CLASSES = 18, 4, 2, 3, 3
BATCHES = [4, 4, 4, 4, 2]  # of an epoch, in three steps: the last is of one batch


def examples() -> list[dict[str, Any]]:
    ids = torch.randint(1, 50, (EXAMPLES, 8), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": int(row[0] % CLASSES), "origin": "unused"} for row in ids]


def build() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        max_position_embeddings=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=CLASSES,
    )
    return transformers.BertForSequenceClassification(config)


class Recording(DataParameters):
    """Remembers the indices of the batches."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"num_instances": EXAMPLES, "instance_lr": 2.0, "instance_sigma": 1.0, **options})
        self.seen: list[Tensor] = []

    def forward(self, logits: Tensor, targets: Tensor, indices: Tensor | None = None) -> Tensor:
        if self.training:
            self.seen.append(indices)
        return super().forward(logits, targets, indices)


def optimizer_of(model: nn.Module) -> tuple[AdamW, LeRaC]:
    optimizer = AdamW(
        layer_groups(model, example_inputs={"input_ids": torch.ones(2, 8, dtype=torch.long)}), lr=1e-2, weight_decay=0.1
    )
    return optimizer, LeRaC(optimizer, 4, min_lr=1e-6)


def arguments(folder: Path, **options: Any) -> Any:
    return transformers.TrainingArguments(
        str(folder),
        **{
            "num_train_epochs": EPOCHS,
            "per_device_train_batch_size": BATCH,
            "gradient_accumulation_steps": ACCUMULATED,
            "max_grad_norm": 0.0,
            "save_steps": 4,
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            **options,
        },
    )


def make(
    folder: Path,
    criterion: DataParameters,
    data: Any = None,
    evaluated: Any = None,
    kind: Any = DataParametersTrainer,
    **options: Any,
) -> Any:
    model = build()
    return kind(
        model,
        arguments(folder, **options),
        train_dataset=with_indices(examples()) if data is None else data,
        eval_dataset=evaluated,
        criterion=criterion,
        optimizers=optimizer_of(model),
    )


def plain(seen: list[Tensor], **options: Any) -> tuple[nn.Module, DataParameters]:
    """The loop that the documentation of DataParameters has, on the batches of a trainer."""
    model, criterion, data = build().train(), Recording(**options), examples()
    optimizer, curriculum = optimizer_of(model)
    for epoch in range(EPOCHS):
        batches = seen[epoch * len(BATCHES) : (epoch + 1) * len(BATCHES)]
        for start in range(0, len(BATCHES), ACCUMULATED):
            group = batches[start : start + ACCUMULATED]
            for indices in group:
                ids = torch.stack([data[index]["input_ids"] for index in indices])
                labels = torch.tensor([data[index]["labels"] for index in indices])
                (criterion(model(input_ids=ids).logits, labels, indices) / len(group)).backward()
            optimizer.step()
            criterion.step()
            curriculum.step()
            optimizer.zero_grad()
    return model, criterion


def assert_same(model: nn.Module, other: nn.Module) -> None:
    for (name, value), expected in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(("workers", "classes"), [(0, CLASSES), (2, None)])
def test_as_a_plain_loop(tmp_path: Path, workers: int, classes: int | None) -> None:
    criterion = Recording(num_classes=classes)
    trainer = make(tmp_path, criterion, dataloader_num_workers=workers, save_strategy="no")
    trainer.train()
    assert [len(indices) for indices in criterion.seen] == BATCHES * EPOCHS
    model, expected = plain(criterion.seen, num_classes=classes)
    assert_same(criterion, expected)
    assert_same(trainer.model, model)
    assert criterion.instance_log_sigma.std() > 1e-3


def test_a_checkpoint_goes_on(tmp_path: Path) -> None:
    criterion, resumed = Recording(num_classes=CLASSES), Recording(num_classes=CLASSES)
    whole = make(tmp_path, criterion)
    whole.train()
    for checkpoint in (str(tmp_path / "checkpoint-4"), True):
        rest = make(tmp_path, resumed)
        rest.train(resume_from_checkpoint=checkpoint)
        assert_same(resumed, criterion)
        assert_same(rest.model, whole.model)
        if checkpoint is not True:
            assert len(resumed.seen) == len(criterion.seen) - len(BATCHES) - ACCUMULATED


def test_with_a_scaler_of_the_loss_after_a_training_that_was_interrupted(tmp_path: Path) -> None:
    """As in float16, which Accelerate does on GPUs alone: a scale of 2^n changes nothing. Nor do old gradients."""
    criterion = Recording()
    criterion(torch.randn(2, CLASSES, requires_grad=True), torch.tensor([0, 1]), torch.tensor([0, 1])).backward()
    criterion.seen.clear()
    trainer = make(tmp_path, criterion, save_strategy="no")
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.train()
    model, expected = plain(criterion.seen)
    assert_same(criterion, expected)
    assert_same(trainer.model, model)


def test_evaluation_is_the_plain_cross_entropy(tmp_path: Path) -> None:
    """In mid-training, of data with an index or without, and it leaves no trace in the training."""
    criterion = Recording()
    evaluation = {"eval_strategy": "steps", "eval_steps": 1}
    trainer = make(tmp_path, criterion, evaluated=examples()[:6], save_strategy="no", **evaluation)
    trainer.train()
    assert_same(trainer.model, plain(criterion.seen)[0])
    for data in (examples()[:6], with_indices(examples()[:6])):
        found = trainer.predict(data)
        expected = nn.functional.cross_entropy(torch.tensor(found.predictions), torch.tensor(found.label_ids))
        assert found.metrics["test_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_of_a_model_that_asks_for_no_labels(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, CLASSES)

        def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
            return {"logits": self.layer(input_ids.float())}

    criterion = Recording()
    trainer = DataParametersTrainer(
        Net(), arguments(tmp_path, save_strategy="no"), train_dataset=with_indices(examples()), criterion=criterion
    )
    trainer.train()
    assert len(criterion.seen) == len(BATCHES) * EPOCHS
    assert trainer.evaluate(examples()).keys() >= {"eval_loss"}


def test_of_a_data_set_of_datasets_with_another_subclass_of_the_trainer(tmp_path: Path) -> None:
    class Other(transformers.Trainer):  # type: ignore[misc, name-defined]
        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            steps.append(loss := super().training_step(*args, **kwargs))
            return loss

    class Both(DataParametersTrainer, Other):
        pass

    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([{**row, "input_ids": row["input_ids"].tolist()} for row in examples()])
    steps: list[Tensor] = []
    criterion = Recording()
    trainer = make(tmp_path, criterion, with_indices(data), kind=Both, save_strategy="no")
    trainer.train()
    assert len(steps) == len(criterion.seen)
    assert_same(trainer.model, plain(criterion.seen)[0])


def test_of_classes_alone_no_index_is_needed(tmp_path: Path) -> None:
    criterion = Recording(num_classes=CLASSES, num_instances=None)
    make(tmp_path, criterion, examples(), save_strategy="no").train()
    assert criterion.class_sigma.std() > 0


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="indices are missing"):
        make(tmp_path, Recording(), examples()).train()
    with pytest.raises(ValueError, match="leave out compute_loss_func"):
        DataParametersTrainer(build(), arguments(tmp_path), criterion=Recording(), compute_loss_func=print)
    with pytest.raises(ValueError, match=r"leave out label_smoothing_factor=0\.1"):
        make(tmp_path, Recording(), label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="a search of hyperparameters"):
        make(tmp_path, Recording()).train(trial={})
    with pytest.raises(FileNotFoundError, match=r"data_parameters\.pt is missing, as in a checkpoint of a"):
        make(tmp_path, Recording()).train(resume_from_checkpoint=str(tmp_path))


def test_the_example(tmp_path: Path) -> None:
    accuracy, found = run_example("trainers/trainer_data_parameters", str(tmp_path))
    assert accuracy > 0.8
    assert found > 0.85
