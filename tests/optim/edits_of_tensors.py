"""Edits of parameters, gradients and states."""

import copy

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, Replicate

from tests.optim.edited import Attributes, World, edit


@edit
def backward(w: World) -> None:
    for param in w.params:
        param.grad = w.like(param)


@edit
def local_tensor_replaced(w: World) -> None:
    for param in w.params:
        if isinstance(param, DTensor):
            param._local_tensor = w.like(param._local_tensor)


@edit
def local_gradient_replaced(w: World) -> None:
    for param in w.params:
        if isinstance(param.grad, DTensor):
            param.grad._local_tensor = w.like(param._local_tensor)


@edit
def partial_sums(w: World) -> None:
    for param in w.params:
        if isinstance(param, DTensor) and isinstance(param.grad, DTensor):
            spec = copy.copy(param._spec)
            spec.placements = (Partial(),)
            for tensor in (param, param.grad, *w.optimizer.state[param].values()):
                if isinstance(tensor, DTensor):
                    tensor._spec = spec


@edit
def gradient_of_other_placements(w: World) -> None:
    param = w.param()
    if isinstance(param.grad, DTensor):
        param.grad = param.grad.redistribute(placements=[Replicate()])


@edit
def accumulate(w: World) -> None:
    for param in w.params:
        if param.grad is not None:
            param.grad.add_(1)


@edit
def no_gradient(w: World) -> None:
    w.param().grad = None


@edit
def freeze(w: World) -> None:
    w.param().requires_grad_(False)


@edit
def gradient_elsewhere(w: World) -> None:
    param = w.param()
    if param.grad is not None:
        param.grad = param.grad.clone()


@edit
def gradient_in_other_order(w: World) -> None:
    param = w.param()
    if param.ndim >= 2:
        param.grad = w.like(param.detach().transpose(0, 1)).transpose(0, 1)


@edit
def expanded_gradient(w: World) -> None:
    param = w.param()
    param.grad = torch.ones((), dtype=param.dtype, device=w.device).expand(param.shape)


@edit
def gradient_of_another_shape(w: World) -> None:
    param = w.param()
    if param.grad is not None:
        longer = (param.shape[0] + 1, *param.shape[1:]) if param.ndim else (2,)  # with the same strides
        param.grad.data = torch.ones(longer, device=param.device)


@edit
def data(w: World) -> None:
    param = w.param()
    param.data = w.like(param)


@edit
def data_in_other_order(w: World) -> None:
    param = w.param()
    if param.ndim == 4:
        param.data = param.data.contiguous(memory_format=torch.channels_last)


@edit
def data_of_another_shape(w: World) -> None:
    param = w.param()
    param.data = param.data.reshape(-1)


@edit
def everything_narrowed(w: World) -> None:
    param = w.param()
    state = w.optimizer.state.get(param, {})
    for tensor in (param, param.grad, *state.values()):
        if param.ndim and tensor is not None and tensor.ndim:
            w.alive.append(tensor.data)
            tensor.data = tensor.data[:1]


@edit
def data_transposed_in_place(w: World) -> None:
    param = w.param()
    if param.ndim >= 2:
        param.data.transpose_(0, 1)


@edit
def data_of_another_type(w: World) -> None:
    param = w.param()
    param.data = param.data.to(w.random.choice([torch.bfloat16, torch.float64, torch.float32]))


@edit
def data_taken_for_another_type(w: World) -> None:
    param = w.param()
    param.requires_grad_(False)  # else torch refuses
    param.data = param.data.view(torch.int32)


@edit
def gradient_taken_for_another_type(w: World) -> None:
    param = w.param()
    if param.grad is not None:
        param.grad.data = param.grad.data.view(torch.int32)


@edit
def moment_taken_for_another_type(w: World) -> None:
    if found := w.moment():
        state, name = found
        state[name].data = state[name].data.view(torch.int32)


@edit
def same_memory(w: World) -> None:
    one, other = w.param(), w.param()
    if one is not other:
        one.data = other.data


@edit
def moment_replaced(w: World) -> None:
    if found := w.moment():
        state, name = found
        w.alive.append(state[name])
        state[name] = state[name] + 1


@edit
def moment_moved(w: World) -> None:
    if found := w.moment():
        state, name = found
        state[name].data = state[name].data * 2


@edit
def moment_of_another_shape(w: World) -> None:
    if found := w.moment():
        state, name = found
        state[name].resize_(2, 9).fill_(1)


@edit
def moment_narrowed(w: World) -> None:
    if found := w.moment():
        state, name = found
        if state[name].ndim:
            state[name].data = state[name].data[:1]


@edit
def moment_lost(w: World) -> None:
    if found := w.moment():
        state, name = found
        del state[name]


@edit
def moment_is_none(w: World) -> None:
    if found := w.moment():
        state, name = found
        state[name] = None


@edit
def count_replaced(w: World) -> None:
    state = w.state()
    if "step" in state:
        state["step"] = torch.tensor(w.random.choice([0.0, 5.0, 1000.0]), dtype=torch.float64)


@edit
def count_in_place(w: World) -> None:
    state = w.state()
    if "step" in state:
        state["step"].fill_(w.random.choice([-1.0, 0.0, 3.0, 500.0]))


@edit
def count_moved(w: World) -> None:
    state = w.state()
    if "step" in state:
        state["step"].data = torch.tensor(7.0)


@edit
def swap(w: World) -> None:
    param = w.param()
    other = nn.Parameter(w.like(param))
    other.grad = w.like(param)
    torch.utils.swap_tensors(param, other)


@edit
def states_of_attributes(w: World) -> None:
    for param in w.params:
        w.alive += [w.optimizer.state[param], Attributes.of(w.optimizer.state[param])]
        w.optimizer.state[param] = vars(w.alive[-1])


@edit
def states_by_attribute(w: World) -> None:
    for attributes in w.alive:
        if isinstance(attributes, Attributes):
            for name, value in list(vars(attributes).items()):
                if isinstance(value, Tensor) and name != "lr":
                    w.alive.append(value)
                    setattr(attributes, name, value.detach().clone())
