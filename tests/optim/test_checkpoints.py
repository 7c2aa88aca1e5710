"""States go to the parameters that they are of: names are compared, and what a param group is, stays."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import lerac_fast.optim
from tests.optim.cases import Case, assert_equal, typical_cases


def layers() -> dict[str, nn.Parameter]:
    """Of one shape: sizes do not tell them apart."""
    return {name: nn.Parameter(torch.full((2,), float(i))) for i, name in enumerate(["stem", "block", "head"])}


def named(names: list[str], depths: bool = True) -> list[dict[str, Any]]:
    parameters = layers()
    return [
        {"params": [parameters[name]], "name": name} | ({"depth": i + 1} if depths else {})
        for i, name in enumerate(names)
    ]


def trained(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.ones_like(param) * (1 + param.detach())
    optimizer.step()
    return optimizer


def snapshot(optimizer: torch.optim.Optimizer) -> tuple[Any, list[dict[str, Any]]]:
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return copy.deepcopy((list(optimizer.state.values()), groups))


def assert_unchanged(optimizer: torch.optim.Optimizer, before: tuple[Any, list[dict[str, Any]]]) -> None:
    states, groups = snapshot(optimizer)
    assert groups == before[1]
    for state, old in zip(states, before[0], strict=True):
        for key, value in old.items():
            assert_equal(state[key], value)


ORDERS = [["stem", "head", "block"], ["stem", "block", "other"]]


@typical_cases
@pytest.mark.parametrize("names", ORDERS, ids="-".join)
def test_groups_of_other_names_are_refused(case: Case, names: list[str]) -> None:
    saved = trained(case.fast(named(["stem", "block", "head"]))).state_dict()
    for group, name in zip(saved["param_groups"], names, strict=True):
        group["name"] = name
    optimizer = trained(case.fast(named(["stem", "block", "head"])))
    before = snapshot(optimizer)
    wrong = next(i for i, name in enumerate(names) if name != ["stem", "block", "head"][i])
    own = ["stem", "block", "head"][wrong]
    with pytest.raises(ValueError, match=f"param group {wrong} is '{own}' here and '{names[wrong]}' in the state dict"):
        optimizer.load_state_dict(saved)
    assert_unchanged(optimizer, before)


@typical_cases
def test_parameters_of_other_names_are_refused(case: Case) -> None:
    parameters = layers()
    saved = trained(case.fast(parameters.items())).state_dict()
    optimizer = trained(case.fast(reversed(layers().items())))
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="param group 0, parameter 0 is 'head' here and 'stem' in the state dict"):
        optimizer.load_state_dict(saved)
    assert_unchanged(optimizer, before)
    case.fast(layers().items()).load_state_dict(saved)


def test_wrappers_of_a_model_do_not_change_names() -> None:
    """torch.compile, DistributedDataParallel and the like put their own before."""
    saved = trained(lerac_fast.optim.Adam(layers().items())).state_dict()
    for prefix in ("_orig_mod.", "module.", "_fsdp_wrapped_module._orig_mod."):
        optimizer = lerac_fast.optim.Adam([(prefix + name, param) for name, param in layers().items()])
        optimizer.load_state_dict(saved)
        assert len(optimizer.state) == 3


@typical_cases
def test_checkpoints_without_names_load_by_position(case: Case) -> None:
    """As torch's do, and those of groups that have none."""
    for saved in (
        trained(case.torch([{"params": [param]} for param in layers().values()])).state_dict(),
        trained(case.fast([{"params": [param]} for param in layers().values()])).state_dict(),
    ):
        optimizer = case.fast(named(["stem", "block", "head"]))
        optimizer.load_state_dict(saved)
        assert len(optimizer.state) == 3
        assert [(group["name"], group["depth"]) for group in optimizer.param_groups] == [
            ("stem", 1),
            ("block", 2),
            ("head", 3),
        ]
    optimizer = case.fast(layers().values())
    with pytest.raises(ValueError, match="different number of parameter groups"):  # torch's own
        optimizer.load_state_dict(saved)


@typical_cases
def test_what_groups_are_stays_and_what_they_were_set_to_is_loaded(case: Case) -> None:
    saved = trained(case.fast(named(["stem", "block", "head"]), lr=0.5)).state_dict()
    for group in saved["param_groups"]:
        group["depth"] += 10
    optimizer = case.fast(named(["stem", "block", "head"]), lr=0.125)
    seen: list[Any] = []
    optimizer.register_load_state_dict_post_hook(lambda o: seen.extend(group["depth"] for group in o.param_groups))
    optimizer.load_state_dict(saved)
    assert [group["depth"] for group in optimizer.param_groups] == [1, 2, 3] == seen
    assert [group["lr"] for group in optimizer.param_groups] == [0.5] * 3


def test_hooks_may_bring_a_state_dict_into_order() -> None:
    saved = trained(lerac_fast.optim.Adam(named(["stem", "head", "block"]))).state_dict()
    optimizer = lerac_fast.optim.Adam(named(["stem", "block", "head"]))

    def reorder(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        by_name = {group["name"]: group for group in state["param_groups"]}
        return state | {"param_groups": [by_name[group["name"]] for group in optimizer.param_groups]}

    optimizer.register_load_state_dict_pre_hook(reorder)
    optimizer.load_state_dict(saved)
    head = optimizer.param_groups[2]["params"][0]
    assert_equal(optimizer.state[head]["exp_avg"], saved["state"][1]["exp_avg"])


def with_names(*names: str) -> list[dict[str, Any]]:
    """As `layer_groups` makes them, one for each of the layers named."""
    return [group | {"param_names": [f"{group['name']}.weight"]} for group in named([*names])]


@typical_cases
def test_groups_with_names_and_without_are_together_in_any_order(case: Case) -> None:
    """Progressive unfreezing adds parameters without names; torch refuses them beside groups with names."""
    added, also = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = case.fast([{"params": [added]}, *with_names("stem", "head")])
    optimizer.add_param_group({"params": also, "lr": 0.5})
    optimizer.add_param_group({"params": [("block.weight", layers()["block"])]})
    names = [group.get("param_names") for group in optimizer.param_groups]
    assert names == [None, ["stem.weight"], ["head.weight"], None, ["block.weight"]]
    with pytest.raises(ValueError, match=r"more than one parameter group: those of shape \(2,\)"):
        optimizer.add_param_group({"params": also})
    with pytest.raises(ValueError, match="Some param names are missing"):  # torch's, of one group
        optimizer.add_param_group({"params": [("a", nn.Parameter(torch.ones(2))), nn.Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 5
    saved = trained(optimizer).state_dict()
    for groups in (with_names("stem", "head", "block"), named(["stem", "head", "block"])):  # old ones have no names
        last = {key: value for key, value in groups.pop().items() if key not in ("name", "depth")}
        reader = case.fast([{"params": layers()["block"]}, *groups, {"params": [added]}, last])
        reader.load_state_dict(saved)
        assert len(reader.state) == 5
    with pytest.raises(ValueError, match="should be with/without names"):
        case.torch(with_names("stem")).add_param_group({"params": [added]})


@typical_cases
def test_names_go_through_torch_and_come_from_there(case: Case) -> None:
    saved = trained(case.fast(with_names("stem", "block"))).state_dict()
    torchs = case.torch(with_names("stem", "block"))
    torchs.load_state_dict(saved)
    optimizer = case.fast(with_names("stem", "block"))
    optimizer.load_state_dict(torchs.state_dict())
    assert [group["param_names"] for group in optimizer.param_groups] == [["stem.weight"], ["block.weight"]]
    for index, state in saved["state"].items():
        for key, value in state.items():
            assert_equal(optimizer.state_dict()["state"][index][key], value)


def test_loading_keeps_the_names_of_the_model() -> None:
    """Those that were saved may have what wrappers of a model add."""
    saved = trained(lerac_fast.optim.Adam(with_names("stem", "block"))).state_dict()
    for group in saved["param_groups"]:
        group["param_names"] = [f"module._orig_mod.{name}" for name in group["param_names"]]
    optimizer = lerac_fast.optim.Adam(with_names("stem", "block"))
    optimizer.load_state_dict(saved)
    assert [group["param_names"] for group in optimizer.param_groups] == [["stem.weight"], ["block.weight"]]


def test_names_of_groups_do_not_count_where_those_of_parameters_are_known() -> None:
    saved = trained(lerac_fast.optim.Adam(with_names("stem", "block"))).state_dict()
    for group in saved["param_groups"]:
        group["name"] = f"of another division.{group['name']}"
    optimizer = lerac_fast.optim.Adam(with_names("stem", "block"))
    optimizer.load_state_dict(saved)
    assert [group["name"] for group in optimizer.param_groups] == ["stem", "block"]
    for group in saved["param_groups"]:
        del group["param_names"]
    with pytest.raises(ValueError, match=r"group 0 is 'stem' here and 'of another division\.stem' in the state"):
        optimizer.load_state_dict(saved)
