"""Parameters on a device, and the same on the CPU: what the kernels for GPUs compute is compared with what those for
the CPU do."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.optim.cases import Case, assert_equal, groups, random

Layout = Callable[[Tensor], Tensor]


def plain(x: Tensor) -> Tensor:
    return x


def unaligned(x: Tensor) -> Tensor:
    """Dense, and one element behind where an access of 16 bytes may begin."""
    return torch.cat([x.new_full((1,), 7), x.flatten()])[1:].view(x.shape)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def transposed(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def every_second(x: Tensor) -> Tensor:
    return torch.stack([x, x * 0 + 7], -1)[..., 0]


# Around what one access, one thread and one block of the kernels take (4, 16 and 4096 float32; Triton's: 2048).
SIZES = [0, 1, 3, 15, 1023, 1024, 2047, 2049, 4095, 4096, 4097, 8191, 8193, 40_009]
# Shape, layout of the parameter, layout of its gradient.
TENSORS: list[tuple[tuple[int, ...], Layout, Layout]] = [
    *[((size,), plain, plain) for size in SIZES],
    ((), plain, plain),
    ((0, 4), plain, plain),
    ((4097,), unaligned, plain),
    ((4097,), plain, unaligned),
    ((4096,), unaligned, unaligned),
    ((16, 8, 3, 3), channels_last, channels_last),
    ((16, 8, 3, 3), channels_last, plain),
    ((16, 8, 3, 3), plain, channels_last),
    ((65, 67), transposed, plain),
    ((65, 67), plain, transposed),
    ((65, 67), every_second, every_second),
]


def in_one_bucket(params: Sequence[nn.Parameter]) -> None:
    """Gradients become views of one array, one behind the other, as DistributedDataParallel's gradient_as_bucket_view
    has them: unaligned, and in the order of the parameter's elements where that is dense."""
    bucket = torch.full((1 + sum(param.numel() for param in params),), 7.0).to(params[0])
    offset = 1
    for param in params:
        like = torch.empty_like(param)  # dense, and in the parameter's order if that is
        view = bucket.as_strided(like.size(), like.stride(), offset)
        param.grad = view.copy_(param.grad)
        offset += param.numel()


class Twins:
    """Parameters on a device in their layouts, each in a group of its own, and contiguous copies on the CPU."""

    def __init__(self, device: torch.device, dtype: torch.dtype, tensors=TENSORS) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.dtype, self.tensors = dtype, tensors
        values = [random(shape, dtype, self.generator) for shape, _, _ in tensors]
        self.here = [nn.Parameter(value.clone()) for value in values]
        self.there = [nn.Parameter(layout(v.to(device))) for v, (_, layout, _) in zip(values, tensors, strict=True)]

    def new_gradients(self, scale: float = 1.0, bucket: bool = False) -> None:
        """`scale` is that of the loss on the device."""
        for param, twin, (shape, _, layout) in zip(self.there, self.here, self.tensors, strict=True):
            twin.grad = random(shape, self.dtype, self.generator)
            param.grad = layout(twin.grad.to(param.device) * scale)
        if bucket:
            in_one_bucket(self.there)

    def optimizers(self, case: Case, **options: Any) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """On the device, and on the CPU: of lerac_fast, with unequal rates."""
        return case.fast(groups(self.there), **options), case.fast(groups(self.here))

    def assert_equal(self, there: torch.optim.Optimizer, here: torch.optim.Optimizer, **tolerance: float) -> None:
        """Parameters and states: bit for bit, if no tolerance is given."""
        for param, twin in zip(self.there, self.here, strict=True):
            assert_same(param.detach(), twin.detach(), **tolerance)
            assert_same_state(there.state.get(param, {}), here.state.get(twin, {}), **tolerance)


def assert_same(there: Tensor, here: Tensor, **tolerance: float) -> None:
    there = there.cpu().contiguous()
    if tolerance:
        torch.testing.assert_close(there, here, **tolerance)
    else:
        assert_equal(there, here)


def assert_same_state(there: dict[str, Any], here: dict[str, Any], **tolerance: float) -> None:
    assert there.keys() == here.keys()
    for key, value in here.items():
        assert_same(there[key], value, **tolerance)


def snapshot(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Copies of all parameters and states."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    states = [value for param in params for value in _tensors(optimizer.state.get(param, {}).values())]
    return [tensor.detach().clone() for tensor in [*params, *states]]


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]
