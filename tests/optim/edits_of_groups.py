"""Edits of param groups, of the optimizer's state as a whole and of what surrounds a step."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tests.optim.edited import Attributes, World, edit


@edit
def nothing(_: World) -> None: ...


@edit
def schedule(w: World) -> None:
    for group in w.groups:
        group["lr"] = group["lr"] * 0.9


@edit
def rate(w: World) -> None:
    w.group()["lr"] = w.random.choice([0.1, 0, 1, True, torch.tensor(0.05), torch.tensor(0.5, dtype=torch.float64)])


@edit
def rates_in_tensors(w: World) -> None:
    for group in w.groups:
        group["lr"] = torch.tensor(0.05)


@edit
def rate_in_place(w: World) -> None:
    for group in w.groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].mul_(0.5)


@edit
def bad_rate(w: World) -> None:
    w.group()["lr"] = w.random.choice([-1.0, float("nan"), "fast", None])


@edit
def good_rates(w: World) -> None:
    for group in w.groups:
        group["lr"] = 0.01


@edit
def option(w: World) -> None:
    values: dict[str, list[Any]] = {
        "weight_decay": [0, 0.1, torch.tensor(0.2)],
        "momentum": [0, 0.5, 0.9],
        "dampening": [0, 0.5],
        "nesterov": [True, False],
        "betas": [(0.5, 0.6), [0.5, 0.9], (0.9, torch.tensor(0.99)), (0.9, 0.999)],
        "eps": [1e-3, 1e-8],
        "maximize": [True, False, 1, None],
        "amsgrad": [True, False],
        "decoupled_weight_decay": [True, False],
    }
    group = w.group()
    name = w.random.choice([name for name in values if name in group])
    group[name] = w.random.choice(values[name])


@edit
def betas_in_lists(w: World) -> None:
    for group in w.groups:
        if "betas" in group:
            group["betas"] = [0.5, 0.9]


@edit
def betas_in_place(w: World) -> None:
    for group in w.groups:
        if isinstance(group.get("betas"), list):
            group["betas"][0] = 0.25


@edit
def groups_of_attributes(w: World) -> None:
    for index, group in enumerate(w.groups):
        w.alive += [group, Attributes.of(group)]
        w.groups[index] = vars(w.alive[-1])


@edit
def rates_by_attribute(w: World) -> None:
    for attributes in w.alive:
        if isinstance(attributes, Attributes) and hasattr(attributes, "lr"):
            attributes.lr *= 0.5


@edit
def option_is_lost(w: World) -> None:
    w.group().pop("maximize", None)


@edit
def other_key(w: World) -> None:
    w.group()["remark"] = w.random.random()


@edit
def state_lost(w: World) -> None:
    w.alive.append(w.optimizer.state.pop(w.param(), None))


@edit
def states_emptied(w: World) -> None:
    w.alive.append(dict(w.optimizer.state))
    w.optimizer.state.clear()


@edit
def reload(w: World) -> None:
    w.alive += [w.groups, w.optimizer.state]
    w.optimizer.load_state_dict(copy.deepcopy(w.optimizer.state_dict()))


@edit
def add_group(w: World) -> None:
    param = nn.Parameter(torch.randn(3, generator=w.generator).to(w.device))
    param.grad = w.like(param)
    w.optimizer.add_param_group({"params": [param], "lr": 0.2})


@edit
def append(w: World) -> None:
    param = nn.Parameter(torch.randn(2, generator=w.generator).to(w.device))
    param.grad = w.like(param)
    w.group()["params"].append(param)


@edit
def replace(w: World) -> None:
    params = w.group()["params"]
    if params:
        w.alive.append(params[0])
        param = nn.Parameter(w.like(params[0]))
        param.grad = w.like(param)
        params[0] = param


@edit
def twice(w: World) -> None:
    w.group()["params"].append(w.param())


@edit
def no_tensor(w: World) -> None:
    w.group()["params"].append("weight")


@edit
def take_out(w: World) -> None:
    params = w.group()["params"]
    if len(params) > 1:
        w.alive.append(params.pop())


@edit
def other_list_of_others(w: World) -> None:
    group = w.group()
    w.alive.append(group["params"])
    group["params"] = [nn.Parameter(w.like(param)) for param in group["params"]]


@edit
def reverse(w: World) -> None:
    w.group()["params"].reverse()


@edit
def reverse_groups(w: World) -> None:
    w.groups.reverse()


@edit
def other_list(w: World) -> None:
    group = w.group()
    w.alive.append(group["params"])
    group["params"] = list(group["params"])


@edit
def other_group(w: World) -> None:
    index = w.random.randrange(len(w.groups))
    w.alive.append(w.groups[index])
    w.groups[index] = dict(w.groups[index])


@edit
def lose_group(w: World) -> None:
    if len(w.groups) > 1:
        w.alive.append(w.groups.pop())


@edit
def scaled(w: World) -> None:
    w.scale = w.random.choice([1.0, 4.0, 1024.0])


@edit
def copied(w: World) -> None:
    w.optimizer = copy.deepcopy(w.optimizer)
    for param, grad in zip(w.params, [w.like(param) for param in w.params], strict=True):
        param.grad = grad
