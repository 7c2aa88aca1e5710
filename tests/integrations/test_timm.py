"""timm with our optimizers by name, LeRaC beside its schedulers, and what its training script does around them."""

import copy
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lerac_fast.optim
from lerac_fast import LeRaC, layer_groups
from tests.integrations.launching import run_example
from tests.lerac.rates import rates, run, sgd

timm = pytest.importorskip("timm")
from timm.optim import _optim_factory, create_optimizer_v2  # noqa: E402
from timm.scheduler import CosineLRScheduler  # noqa: E402
from timm.utils import ModelEmaV3, NativeScaler  # noqa: E402

from lerac_fast.integrations.timm import register  # noqa: E402

K, STEPS, WARMUP = 4, 8, 2

CLASSES = {
    "leracsgd": ("sgd", lerac_fast.optim.SGD),
    "leracmomentum": ("momentum", lerac_fast.optim.SGD),
    "leracadam": ("adam", lerac_fast.optim.Adam),
    "leracadamw": ("adamw", lerac_fast.optim.AdamW),
    "leracadamax": ("adamax", lerac_fast.optim.Adamax),
    "leraclion": ("lion", lerac_fast.optim.Lion),
}


def build() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=4, img_size=32)


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
    return images, torch.arange(4)


def create(model: nn.Module, name: str = "leracadamw", **options: Any) -> torch.optim.Optimizer:
    register()
    return create_optimizer_v2(model, name, lr=1e-3, weight_decay=0.05, **options)


def by_layer(model: nn.Module) -> list[dict[str, Any]]:
    return layer_groups(
        model, example_inputs=batch(0)[0], options=lambda _, p: {"weight_decay": 0.0} if p.ndim < 2 else None
    )


# Names


def test_the_names_that_are_registered() -> None:
    assert register() == tuple(CLASSES)
    assert set(CLASSES) <= set(timm.optim.list_optimizers())
    assert not [name for name in CLASSES if "_" in name], "timm takes what follows the last one"


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("options", [{}, {"betas": (0.8, 0.9), "eps": 1e-6, "momentum": 0.7}], ids=["", "options"])
def test_a_name_makes_our_class_with_the_settings_of_timms(name: str, options: dict[str, Any]) -> None:
    theirs, ours = CLASSES[name]
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    made, expected = create(model, name, **options), create(model, theirs, **options)
    assert type(made) is type(create(model, name.upper())) is ours
    for group, other in zip(made.param_groups, expected.param_groups, strict=True):
        common = group.keys() & other.keys() - {"params", "foreach"}
        assert common >= {"lr", "weight_decay"}
        assert {key: group[key] for key in common} == {key: other[key] for key in common}


def test_a_prefix_that_timm_knows() -> None:
    optimizer = create(nn.Linear(2, 2), "lookahead_leracadamw")
    assert type(optimizer._base_optimizer) is lerac_fast.optim.AdamW


def test_a_name_with_an_underscore_is_timms_own() -> None:
    """What the documentation warns of. If this fails, timm no longer cuts names, and the warning can go."""
    assert type(create(nn.Linear(2, 2), "lerac_adamw")) is torch.optim.AdamW


def test_names_are_refused_that_are_not_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_optim_factory.default_registry, "_optimizers", {"adamw": None})
    for name in CLASSES:
        with pytest.raises(ValueError, match=name):
            create_optimizer_v2(nn.Linear(2, 2), name)


def test_registering_again_overwrites_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert register() == register()
    assert caplog.records == []


# Training


def train(name: str, model: nn.Module, curriculum: bool = False) -> tuple[nn.Module, list[list[float]]]:
    """As timm's script does: layer decay, warmup, adaptive clipping in its scaler, averages of the weights."""
    optimizer = create(model, name, layer_decay=0.8)
    schedule = CosineLRScheduler(optimizer, STEPS, lr_min=1e-5, warmup_t=WARMUP, warmup_lr_init=1e-4, t_in_epochs=False)
    lerac = LeRaC(optimizer, K, min_lr=1e-7) if curriculum else None
    average, scaler, table = ModelEmaV3(model, decay=0.5), NativeScaler(device="cpu"), []
    for step in range(STEPS):
        images, labels = batch(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        table.append(rates(optimizer))
        scaler(loss, optimizer, clip_grad=0.05, clip_mode="agc", parameters=model.parameters())
        average.update(model, step)
        if lerac is None:
            schedule.step_update(step + 1)
            continue
        lerac.step()
        with lerac.base_rates():
            schedule.step_update(step + 1)
    return average.module, table


@pytest.mark.parametrize("name", ["leracadamw", "leracsgd"])
def test_as_with_timms(name: str) -> None:
    model, reference = build(), build()
    average, table = train(name, model)
    expected, expected_table = train(CLASSES[name][0], reference)
    assert table == expected_table
    assert len({*table[-1]}) > 4
    before = build().state_dict()
    for ours, theirs in ((model, reference), (average, expected)):
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-4, atol=1e-5)
        assert any(not torch.equal(value, before[key]) for key, value in theirs.state_dict().items())


def test_lerac_beside_a_scheduler() -> None:
    """The rates are those of the scheduler, layer decay and warmup included, times LeRaC's factors."""
    _, alone = train("leracadamw", build())
    _, table = train("leracadamw", build(), curriculum=True)
    optimizer = sgd([1.0] * len(alone[0]))
    factors = run(optimizer, LeRaC(optimizer, K, min_lr=1e-4), STEPS - 1)
    expected = [[a * f for a, f in zip(*rows, strict=True)] for rows in zip(alone, factors, strict=True)]
    assert table == [pytest.approx(row, rel=1e-6) for row in expected]


def schedule_of(optimizer: torch.optim.Optimizer) -> CosineLRScheduler:
    return CosineLRScheduler(optimizer, STEPS, t_in_epochs=False)


def test_a_scheduler_after_lerac_goes_on_from_a_checkpoint() -> None:
    def make() -> tuple[torch.optim.Optimizer, LeRaC, CosineLRScheduler]:
        optimizer = create(build(), param_group_fn=by_layer)
        schedule = schedule_of(optimizer)
        return optimizer, LeRaC(optimizer, K, min_lr=1e-7), schedule

    optimizer, curriculum, schedule = make()
    states, table = [], []
    for step in range(STEPS):
        states.append(copy.deepcopy((optimizer.state_dict(), curriculum.state_dict())))
        table.append(rates(optimizer))
        optimizer.step()
        curriculum.step()
        if curriculum.finished:
            schedule.step_update(step + 1 - K)
    plain = sgd([1e-3] * len(table[0]), depths=[group["depth"] for group in optimizer.param_groups])
    assert table[: K + 1] == run(plain, LeRaC(plain, K, min_lr=1e-7), K)
    assert [len({*row}) for row in table[K:]] == [1] * (STEPS - K)
    assert table[-1][0] < table[K][0]

    resumed, curriculum, schedule = make()
    resumed.load_state_dict(states[2][0])
    curriculum.load_state_dict(states[2][1])
    rest = []
    for step in range(2, STEPS):
        rest.append(rates(resumed))
        resumed.step()
        curriculum.step()
        if curriculum.finished:
            schedule.step_update(step + 1 - K)
    assert rest == table[2:]


def test_a_scheduler_that_is_made_after_lerac() -> None:
    """It sets the rates, so make it in the block."""
    optimizer = create(build(), param_group_fn=by_layer)
    curriculum = LeRaC(optimizer, K, min_lr=1e-7)
    lowered = rates(optimizer)
    with curriculum.base_rates():
        schedule_of(optimizer)
    assert rates(optimizer) == lowered
    schedule_of(optimizer)
    optimizer.step()
    with pytest.raises(RuntimeError, match="base_rates"):
        curriculum.step()


def test_a_scheduler_that_is_stepped_across_lerac_is_refused() -> None:
    optimizer = create(build(), param_group_fn=by_layer)
    schedule = schedule_of(optimizer)
    curriculum = LeRaC(optimizer, K, min_lr=1e-7)
    optimizer.step()
    schedule.step_update(1)
    with pytest.raises(RuntimeError, match="base_rates"):
        curriculum.step()


def test_the_example() -> None:
    accuracy, averaged = run_example("trainers/timm_registry")
    assert accuracy > 0.9
    assert averaged > 0.9
