"""LoRA of PEFT with LeRaC: groups of adapters, saved and loaded, frozen and unfrozen, by hand and in the Trainer."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lerac_fast.optim
from lerac_fast import LeRaC, layer_groups
from tests.lerac.rates import rates, run, sgd

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by PEFT

K, STEPS, TARGETS = 6, 8, ["query", "value", "dense"]
PREFIX = "base_model.model."
INPUTS = torch.randint(1, 50, (6, 8), generator=torch.Generator().manual_seed(0))
LABELS = INPUTS[:, 0] % 2


def base() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=8, **sizes, **dropout)
    return transformers.BertForSequenceClassification(config)


def build(**options: Any) -> Any:
    model = base()
    torch.manual_seed(1)
    return peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=TARGETS, **options))


def adapter(name: str) -> str | None:
    """The layer of an adapter, of which A and B are parts."""
    return name.split(".lora_")[0] if ".lora_" in name else None


def groups_of(model: nn.Module, **options: Any) -> list[dict[str, Any]]:
    return layer_groups(model, example_inputs={"input_ids": INPUTS[:2]}, **options)


def optimizer_of(model: nn.Module, module: Any = lerac_fast.optim) -> tuple[torch.optim.Optimizer, LeRaC]:
    optimizer = module.AdamW(groups_of(model, by=adapter), lr=1e-2, weight_decay=0.1)
    return optimizer, LeRaC(optimizer, K, min_lr=1e-6)


def step(model: Any, optimizer: torch.optim.Optimizer, curriculum: LeRaC) -> None:
    optimizer.zero_grad()
    model(input_ids=INPUTS, labels=LABELS).loss.backward()
    optimizer.step()
    curriculum.step()


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def plain_rates(depths: list[int], steps: int = STEPS) -> list[list[float]]:
    optimizer = sgd([1e-2] * len(depths), depths)
    return run(optimizer, LeRaC(optimizer, K, min_lr=1e-6), steps)


# Groups


def order(groups: list[dict[str, Any]], model: nn.Module) -> list[str]:
    """The modules in the order of the groups, by the names that they have without PEFT, those of one depth by name."""
    parts = re.compile(r"\.lora_|\.modules_to_save|\.(?:weight|bias)$")
    names = {parameter: parts.split(name.removeprefix(PREFIX))[0] for name, parameter in model.named_parameters()}
    depths = {names[parameter]: group["depth"] for group in groups for parameter in group["params"]}
    return sorted(depths, key=lambda name: (depths[name], name))


@pytest.mark.parametrize(("options", "by"), [({}, adapter), ({"use_dora": True}, "module")], ids=["LoRA", "DoRA"])
def test_groups_have_the_adapters_alone_in_the_order_of_their_modules(options: dict[str, Any], by: Any) -> None:
    model, whole = build(**options), base()
    groups = groups_of(model, by=by)
    found = [parameter for group in groups for parameter in group["params"]]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(map(id, found)) == sorted(map(id, trainable))
    modules = order(groups, model)
    assert len(modules) == 12
    assert modules == [module for module in order(groups_of(whole), whole) if module in modules]
    if by is adapter:
        assert [group["name"].removeprefix(PREFIX) for group in groups[:-1]] == modules[:-1]


def test_an_adapter_in_two_layers_lowers_b_below_a() -> None:
    """By module A comes before B: what the documentation says of the default."""
    groups = groups_of(build())
    depths = {group["name"]: group["depth"] for group in groups}
    pairs = [(name, name.replace("lora_A", "lora_B")) for name in depths if "lora_A" in name]
    assert len(pairs) == 11
    assert all(depths[a] < depths[b] for a, b in pairs)


def test_groups_of_the_adapter_that_is_active() -> None:
    model = build()
    model.add_adapter("other", peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    model.set_adapter("other")
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [names[parameter] for group in groups_of(model, by=adapter) for parameter in group["params"]]
    assert len(found) == 2 * 2 + 2
    assert all(".other." in name for name in found)


# Training


def test_the_rates_are_those_of_a_plain_model() -> None:
    model = build()
    before = values(model)
    optimizer, curriculum = optimizer_of(model)
    table = []
    for _ in range(STEPS):
        table.append(rates(optimizer))
        step(model, optimizer, curriculum)
    assert table == plain_rates([group["depth"] for group in optimizer.param_groups], STEPS - 1)
    changed = {name for name, value in values(model).items() if not torch.equal(value, before[name])}
    assert changed == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_saved_and_loaded_in_mid_curriculum(tmp_path: Path) -> None:
    model = build()
    optimizer, curriculum = optimizer_of(model)
    for number in range(STEPS):
        if number == 3:
            model.save_pretrained(tmp_path)
            torch.save([optimizer.state_dict(), curriculum.state_dict()], tmp_path / "states.pt")
        step(model, optimizer, curriculum)

    resumed = peft.PeftModel.from_pretrained(base(), tmp_path, is_trainable=True)
    parts = optimizer_of(resumed)
    for part, state in zip(parts, torch.load(tmp_path / "states.pt"), strict=True):
        part.load_state_dict(state)
    for _ in range(3, STEPS):
        step(resumed, *parts)
    assert rates(parts[0]) == rates(optimizer)
    for name, value in values(resumed).items():
        assert torch.equal(value, model.get_parameter(name)), name


def frozen_for_a_while(module: Any) -> tuple[Any, list[list[float]]]:
    """The adapters of the first layer are frozen from step 2 to 5; the embeddings join in at step 3."""
    model = build()
    optimizer, curriculum = optimizer_of(model, module)
    first = [p for name, p in model.named_parameters() if "layer.0." in name and "lora" in name]
    name = "base_model.model.bert.embeddings.word_embeddings.weight"
    embeddings = model.get_parameter(name)
    table = []
    for number in range(STEPS):
        if number in (2, 5):
            for parameter in first:
                parameter.requires_grad_(number == 5)
            seen = [parameter.detach().clone() for parameter in first]
        if number == 3:
            optimizer.add_param_group({"params": [(name, embeddings.requires_grad_(True))], "lr": 1e-3})
        step(model, optimizer, curriculum)
        table.append(rates(optimizer))
        if 2 <= number < 5:
            assert all(torch.equal(parameter, value) for parameter, value in zip(first, seen, strict=True))
    assert not any(torch.equal(parameter, value) for parameter, value in zip(first, seen, strict=True))
    return model, table


def test_frozen_and_unfrozen_in_mid_curriculum() -> None:
    model, table = frozen_for_a_while(lerac_fast.optim)
    expected, expected_table = frozen_for_a_while(torch.optim)
    assert table == expected_table
    depths = [group["depth"] for group in groups_of(build(), by=adapter)]
    assert [row[: len(depths)] for row in table] == plain_rates(depths)[1:]
    assert [row[len(depths) :] for row in table] == [[]] * 3 + [[1e-3]] * (STEPS - 3)
    for name, value in values(model).items():
        torch.testing.assert_close(value, expected.get_parameter(name).detach(), rtol=1e-4, atol=1e-6)


# transformers' Trainer


class Freezing(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Freezes the first layer's adapters for steps 2 to 4, and notes the rates of each step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_step_begin(self, _: Any, state: Any, *__: Any, model: Any, **___: Any) -> None:
        for name, parameter in model.named_parameters():
            if "layer.0." in name and "lora" in name:
                parameter.requires_grad_(not 2 <= state.global_step < 5)

    def on_pre_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
        self.rates.append(rates(optimizer))


def train(folder: Path, resume: str | None = None) -> tuple[Any, list[list[float]]]:
    model, freezing = build(), Freezing()
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        save_steps=3,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    data = [{"input_ids": row, "labels": label} for row, label in zip(INPUTS, LABELS, strict=True)]
    trainer = transformers.Trainer(
        model, arguments, train_dataset=data, callbacks=[freezing], optimizers=optimizer_of(model)
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, freezing.rates


def test_in_the_trainer_resumed_while_layers_are_frozen(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model, table = train(tmp_path)
    resumed, rest = train(tmp_path, str(tmp_path / "checkpoint-3"))
    depths = [group["depth"] for group in groups_of(build(), by=adapter)]
    assert table == plain_rates(depths, STEPS - 1)
    assert rest == table[3:]
    for name, value in values(resumed).items():
        assert torch.equal(value, model.get_parameter(name)), name
