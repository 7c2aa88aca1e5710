"""A state dict for other param groups: what a parameter has moves with its name."""

import copy
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lerac_fast.optim
from lerac_fast.optim import regroup
from tests.optim.cases import Case, assert_equal, typical_cases
from tests.optim.layouts import Layout, layouts

NAMES = ["stem.weight", "block.weight", "block.bias", "norm.weight", "head.weight", "head.bias"]
STATELESS = "norm.weight"  # never has a gradient


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(2, 1 + i, generator=generator)) for i, name in enumerate(NAMES)}


def groups(layout: Layout, params: dict[str, nn.Parameter], named: bool = True, **options: Any) -> list[dict[str, Any]]:
    return [{"params": [(n, params[n]) if named else params[n] for n in names]} | options for names in layout]


def train(optimizer: torch.optim.Optimizer, params: dict[str, nn.Parameter], steps: int = 2) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for name, param in params.items():
            param.grad = None if name == STATELESS else torch.randn(param.shape, generator=generator)
        optimizer.step()


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor):
        assert found is expected  # shared
    else:
        assert found == expected


@typical_cases
@given(layouts(NAMES), layouts(NAMES), st.booleans(), st.booleans())
@settings(max_examples=10)
def test_any_layout_to_any_other_and_back(
    case: Case, first: Layout, second: Layout, from_torch: bool, to_torch: bool
) -> None:
    params = parameters()
    writer = (case.torch if from_torch else case.fast)(groups(first, params))
    train(writer, params)
    saved = writer.state_dict()
    before = copy.copy(saved["state"]), copy.deepcopy(saved["param_groups"])
    copies = {name: nn.Parameter(param.detach().clone()) for name, param in params.items()}
    reader = (case.torch if to_torch else case.fast)(groups(second, copies))

    moved = regroup(saved, reader)
    identifiers = {n: i for g in moved["param_groups"] for n, i in zip(g["param_names"], g["params"], strict=True)}
    states = {n: writer.state[param] for n, param in params.items() if param in writer.state}
    assert_same(moved["state"], {identifiers[n]: state for n, state in states.items()})
    assert_same(regroup(moved, writer), saved)
    assert (saved["state"], saved["param_groups"]) == before

    reader.load_state_dict(copy.deepcopy(moved))
    train(reader, copies)
    # As if nothing had been moved: the same class, in the layout of the first.
    twins = {name: nn.Parameter(parameters()[name].detach()) for name in NAMES}
    straight = (case.torch if from_torch else case.fast)(groups(first, twins))
    train(straight, twins)
    other = (case.torch if to_torch else case.fast)(groups(first, twins))
    other.load_state_dict(straight.state_dict())
    train(other, twins)
    for name in NAMES:
        assert_equal(copies[name], twins[name])


def saved_and_reader(layout: Layout, **options: Any) -> tuple[dict[str, Any], torch.optim.Optimizer]:
    params = parameters()
    writer = torch.optim.AdamW(groups([NAMES], params, **options))
    train(writer, params)
    return writer.state_dict(), lerac_fast.optim.AdamW(groups(layout, parameters()), lr=0.25)


EACH = [[name] for name in NAMES]


def test_names_given() -> None:
    params = parameters()
    writer = torch.optim.AdamW(params.values())
    train(writer, params)
    reader = lerac_fast.optim.AdamW(groups(EACH[::-1], params, named=False))
    with pytest.raises(ValueError, match=r"param group 0 of the optimizer has no param_names. Give names="):
        regroup(writer.state_dict(), reader, saved_names=params)
    with pytest.raises(ValueError, match=r"the state dict has no param_names. Give saved_names"):
        regroup(writer.state_dict(), reader, names=params.items())
    with pytest.raises(ValueError, match="saved_names has 2 names, and the state dict 6 parameters"):
        regroup(writer.state_dict(), reader, names=params.items(), saved_names=["a", "b"])
    with pytest.raises(ValueError, match=r"names has none for parameter 0 of param group 0, of shape \(2, 6\)"):
        regroup(writer.state_dict(), reader, names=[*params.items()][:-1], saved_names=params)
    with pytest.raises(ValueError, match="parameters of the state dict have the same name: 'a'"):
        regroup(writer.state_dict(), reader, names=params.items(), saved_names=["a", "a", *NAMES[2:]])
    moved = regroup(writer.state_dict(), reader, names=params.items(), saved_names=params)
    assert not any("param_names" in group for group in moved["param_groups"])
    reader.load_state_dict(moved)
    assert_equal(reader.state[params["head.bias"]]["exp_avg"], writer.state[params["head.bias"]]["exp_avg"])


def test_groups_without_names_beside_those_with() -> None:
    """As progressive unfreezing adds them."""
    saved, _ = saved_and_reader([NAMES])
    params = parameters()
    reader = lerac_fast.optim.AdamW(groups([NAMES[:4]], params))
    reader.add_param_group({"params": [params[name] for name in NAMES[4:]]})
    with pytest.raises(ValueError, match=r"param group 1 of the optimizer has no param_names. Give names="):
        regroup(saved, reader)
    reader.load_state_dict(regroup(saved, reader, names=params.items()))
    assert [*saved["param_groups"][0]["param_names"]] == NAMES
    for place, name in enumerate(NAMES):
        if name != STATELESS:
            assert_equal(reader.state[params[name]]["exp_avg"], saved["state"][place]["exp_avg"])
    mixed = reader.state_dict()
    whole = lerac_fast.optim.AdamW(params.items())
    with pytest.raises(ValueError, match=r"the state dict has no param_names. Give saved_names"):
        regroup(mixed, whole)
    assert len(regroup(mixed, whole, saved_names=NAMES)["state"]) == 5


def test_an_empty_group_needs_no_names() -> None:
    saved, _ = saved_and_reader([NAMES])
    params = parameters()
    reader = lerac_fast.optim.AdamW([{"params": []}, *groups(EACH, params)])
    moved = regroup(saved, reader)
    assert [len(group["params"]) for group in moved["param_groups"]] == [0, *map(len, EACH)]
    reader.load_state_dict(moved)
    whole = lerac_fast.optim.AdamW(params.items())
    assert_same(regroup(moved, whole)["state"], saved["state"])


def test_wrappers_do_not_change_names() -> None:
    saved, _ = saved_and_reader(EACH)
    wrapped = {f"module._orig_mod.{name}": param for name, param in parameters().items()}
    reader = lerac_fast.optim.AdamW([{"params": [pair]} for pair in wrapped.items()])
    assert len(regroup(saved, reader)["state"]) == 5


def test_what_differs_is_named_in_one_error_or_skipped() -> None:
    saved, _ = saved_and_reader(EACH)
    params = parameters() | {"new": nn.Parameter(torch.ones(2)), "block.bias": nn.Parameter(torch.ones(7))}
    del params["head.bias"]
    reader = lerac_fast.optim.AdamW([{"params": [pair]} for pair in params.items()])
    with pytest.raises(
        ValueError,
        match=r"missing: 'new'; not in the optimizer: 'head.bias'; "
        r"of another shape: 'block.bias' \(\(7,\) here, \(2, 3\) in its 'exp_avg'\)",
    ):
        regroup(saved, reader)
    moved = regroup(saved, reader, strict=False)
    names = [group["param_names"][0] for group in moved["param_groups"]]
    assert [names[i] for i in moved["state"]] == ["stem.weight", "block.weight", "head.weight"]
    reader.load_state_dict(moved)
    other = lerac_fast.optim.AdamW([("of another model", nn.Parameter(torch.ones(2)))])
    with pytest.raises(ValueError, match="has no parameter of the optimizer"):
        regroup(saved, other, strict=False)
    with pytest.raises(ValueError, match="not the state dict of an optimizer: it has the keys 'weight'"):
        regroup({"weight": torch.ones(2)}, reader)


def test_hyperparameters_are_the_optimizers_unless_saved_ones_are_asked_for() -> None:
    saved, reader = saved_and_reader(EACH, lr=0.5, foreach=True)
    assert {group["lr"] for group in regroup(saved, reader)["param_groups"]} == {0.25}
    moved = regroup(saved, reader, saved_hyperparameters=True)
    assert {group["lr"] for group in moved["param_groups"]} == {0.5}
    assert {group["foreach"] for group in moved["param_groups"]} == {None}  # how it is stepped
    moved["param_groups"][3]["lr"] = 0.125
    whole = lerac_fast.optim.AdamW(parameters().items())
    regroup(moved, whole)
    with pytest.raises(ValueError, match=r"group 0 .*: 'lr' is 0.125 for 'norm.weight' and 0.5 for"):
        regroup(moved, whole, saved_hyperparameters=True)


def test_a_warning_tells_what_is_lost() -> None:
    saved, reader = saved_and_reader(EACH, initial_lr=0.5)
    saved["param_groups"][0]["of_mine"] = 1
    with pytest.warns(UserWarning, match="regroup drops 'initial_lr', 'of_mine' of the saved param groups") as noted:
        moved = regroup(saved, reader)
    assert len(noted) == 1
    assert not any("initial_lr" in group for group in moved["param_groups"])
    del saved["param_groups"][0]["of_mine"]
    for group in reader.param_groups:
        group["initial_lr"] = 0.5
    regroup(saved, reader)  # nothing is lost
    reader.param_groups[0]["initial_lr"] = 0.125
    with pytest.warns(UserWarning, match="drops 'initial_lr'"):
        moved = regroup(saved, reader)
    assert moved["param_groups"][0]["initial_lr"] == 0.125


def test_states_of_no_parameter() -> None:
    saved, reader = saved_and_reader(EACH)
    saved["state"]["of all"] = saved["mine"] = 3
    moved = regroup(saved, reader)
    assert moved["state"]["of all"] == moved["mine"] == 3
    saved["state"][17] = {}
    with pytest.raises(ValueError, match=r"states of parameters that are in none of its groups: \[17\]"):
        regroup(saved, reader)


class Counted(dict[str, Any]):
    """A group that counts how often it is looked into."""

    lookups = 0

    def __getitem__(self, key: str) -> Any:
        Counted.lookups += 1
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        Counted.lookups += 1
        return super().get(key, default)


def lookups_of_loading(count: int) -> int:
    params = {f"layer{i}.weight": nn.Parameter(torch.zeros(2)) for i in range(count)}
    Counted.lookups = 0
    optimizer = lerac_fast.optim.Adam([Counted(params=[pair], lr=0.5) for pair in params.items()])
    optimizer.add_param_group(Counted(params=[("added", nn.Parameter(torch.zeros(2)))]))
    for param in params.values():
        param.grad = torch.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["param_groups"] = [Counted(group) for group in saved["param_groups"]]
    optimizer.load_state_dict(regroup(saved, optimizer))
    saved["param_groups"] = [Counted(group) for group in saved["param_groups"]]
    optimizer.load_state_dict(saved)
    return Counted.lookups


def test_the_work_grows_with_the_number_of_groups() -> None:
    few, more = lookups_of_loading(20), lookups_of_loading(200)
    assert more <= 10 * few


def test_parameters_in_two_groups_are_refused_whatever_is_remembered() -> None:
    first, second, third = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = lerac_fast.optim.SGD([{"params": [first]}, {"params": [second]}], lr=0.5)
    for param in (first, second):
        with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
            optimizer.add_param_group({"params": [param]})
    assert len(optimizer.param_groups) == 2
    del optimizer.param_groups[1]
    optimizer.add_param_group({"params": [second]})
    optimizer.param_groups[0]["params"][0] = third  # as those who shard a model do
    first.grad = second.grad = third.grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": [third]})
    optimizer.add_param_group({"params": [first]})
    assert [group["params"][0] for group in optimizer.param_groups] == [third, second, first]


def test_loading_keeps_step_where_its_group_has_it() -> None:
    """torch looks for the group of each parameter: found among fewer, it is still the parameter's own."""
    params = parameters()
    layout = groups(EACH, params)
    layout[1]["fused"] = True
    optimizer = torch.optim.Adam(layout, foreach=False)
    train(optimizer, params)
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        state["step"] = state["step"].double()
    reader = lerac_fast.optim.Adam(groups(EACH, params))
    reader.load_state_dict(saved)
    kinds = {name: reader.state[param]["step"].dtype for name, param in params.items() if param in reader.state}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {"block.weight"}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_of_torch_distributed_checkpoint(flat: bool, full: bool) -> None:
    from torch.distributed.checkpoint import state_dict as dcp

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].bias.requires_grad_(False)
    writer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    writer.step()
    options = dcp.StateDictOptions(full_state_dict=full, flatten_optimizer_state_dict=flat)
    saved = dcp.get_optimizer_state_dict(model, writer, options=options)
    pairs = [*model.named_parameters()]
    random.Random(0).shuffle(pairs)
    reader = lerac_fast.optim.AdamW([{"params": [pair]} for pair in pairs], lr=0.25)
    moved = regroup(saved, reader)
    assert [group["params"] for group in moved["param_groups"]] == [[name] for name, _ in pairs]
    for load in (reader.load_state_dict, lambda d: dcp.set_optimizer_state_dict(model, reader, d)):
        reader.state.clear()
        load(moved)
        assert [group["lr"] for group in reader.param_groups] == [0.25] * 4
        for name, param in pairs:
            if param.requires_grad:
                assert_equal(reader.state[param]["exp_avg"], writer.state[param]["exp_avg"])
            else:
                assert name == "0.bias"
                assert not reader.state.get(param)


def test_torch_distributed_checkpoint_regroups_what_is_flattened_itself() -> None:
    """By names of parameters: those of the groups that they were saved in do not count."""
    from torch.distributed.checkpoint import state_dict as dcp

    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    writer = lerac_fast.optim.AdamW(model.named_parameters(), lr=0.125)
    model(torch.ones(1, 2)).sum().backward()
    writer.step()
    writer.zero_grad()
    flat = dcp.StateDictOptions(flatten_optimizer_state_dict=True)
    saved = dcp.get_optimizer_state_dict(model, writer, options=flat)
    reader = lerac_fast.optim.AdamW([{"params": [pair]} for pair in reversed([*model.named_parameters()])])
    dcp.set_optimizer_state_dict(model, reader, saved, options=flat)
    assert [group["param_names"] for group in reader.param_groups] == [
        ["1.bias"],
        ["1.weight"],
        ["0.bias"],
        ["0.weight"],
    ]
    assert [group["lr"] for group in reader.param_groups] == [0.125] * 4
    for param in model.parameters():
        assert_equal(reader.state[param]["exp_avg"], writer.state[param]["exp_avg"])


def test_a_parameter_put_into_a_group_by_hand_is_refused_by_the_step() -> None:
    first, second, third = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = lerac_fast.optim.SGD([{"params": [first]}, {"params": [second]}], lr=0.5)
    optimizer.param_groups[1]["params"][0] = third
    optimizer.add_param_group({"params": [third]})  # which remembers what the groups had
    third.grad = torch.ones(2)
    with pytest.raises(ValueError, match="appears more than once in the param groups"):
        optimizer.step()
    assert_equal(third, torch.ones(2))
