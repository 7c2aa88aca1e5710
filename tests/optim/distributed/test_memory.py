"""What an optimizer keeps of DTensors from step to step."""

import gc
import subprocess
import sys
import weakref
from collections import Counter

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec

from tests.optim.cases import Case, groups, typical_cases


def _alive() -> Counter[str]:
    gc.collect()
    kinds = (torch.Tensor, DTensorSpec)
    # torch follows shapes with fake tensors, and frees them when it likes.
    found = (type(x) for x in gc.get_objects() if issubclass(type(x), kinds) and not issubclass(type(x), FakeTensor))
    return Counter(kind.__name__ for kind in found)


@pytest.mark.usefixtures("process_group")
@typical_cases
def test_nothing_is_left_of_the_steps_before(case: Case) -> None:
    """With gradients whose specs are new at every step, and every third time of other placements."""
    mesh = init_device_mesh("cpu", (1,))
    params = [nn.Parameter(DTensor.from_local(torch.ones(4, 2), mesh, [Shard(0)])) for _ in range(5)]
    optimizer = case.fast(groups(params))

    def steps(count: int) -> None:
        for step in range(count):
            for param in params:
                placement = Shard(0) if step % 3 else Replicate()
                param.grad = DTensor.from_local(torch.ones(4, 2), mesh, [placement])
            optimizer.step()

    steps(3)
    before = _alive()
    steps(300)
    assert _alive() == before


@pytest.mark.usefixtures("process_group")
def test_parameters_that_are_gone_are_free() -> None:
    mesh = init_device_mesh("cpu", (1,))
    optimizer = None
    gone = []
    for _ in range(3):
        param = nn.Parameter(DTensor.from_local(torch.ones(4, 2), mesh, [Shard(0)]))
        param.grad = torch.zeros_like(param)
        if optimizer is None:
            optimizer = Case("Adam").fast([param])
        optimizer.param_groups[0]["params"][0] = param
        optimizer.step()
        gone += [weakref.ref(param), weakref.ref(param._local_tensor)]
        optimizer.state.clear()
    del optimizer, param
    gc.collect()
    assert [ref() for ref in gone] == [None] * 6


PROGRAM = """
import sys, torch
from lerac_fast._native.extension import extension

class Weight(torch.nn.Parameter):
    pass

params = [torch.nn.Parameter(torch.ones(3)), Weight(torch.ones(3))]
for param in params:
    param.grad = torch.ones(3)
flags = dict.fromkeys(("maximize", "differentiable", "nesterov"), False)
group = {"params": params, "lr": 0.5, "weight_decay": 0, "momentum": 0, "dampening": 0, **flags}
extension.Step(extension.Optimizer.SGD)([group], {}, None, None, print)
assert all(param[0] == 0.5 for param in params)
assert "torch.distributed.tensor" not in sys.modules
"""


def test_the_engine_imports_nothing_of_torch_distributed() -> None:
    """torch.optim does, by torch._dynamo."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
