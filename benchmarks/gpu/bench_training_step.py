"""What the curricula cost in a whole training step on a GPU, at batch 64. See ``benchmarks/bench_training_step.py``."""

from contextlib import nullcontext

import pytest
import torch

from benchmarks.bench_training_step import MODELS, contenders, prepare
from benchmarks.gpu.conftest import TINY

BATCH = 2 if TINY else 64


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16 autocast channels_last"])
def bench_training_step(compare_on_device, device: str, name: str, mixed: bool) -> None:
    layout = torch.channels_last if mixed else torch.contiguous_format
    case, model, images, labels = prepare(name, layout, device, BATCH)
    precision = torch.autocast(device, torch.bfloat16) if mixed else nullcontext()
    case += ", bfloat16 autocast" if mixed else ", float32"
    compare_on_device(case, contenders(model, images, labels, precision), seconds=10.0, warm=False)
