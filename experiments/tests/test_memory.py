"""The memory that trainings take, as it is counted."""

import pytest
import torch

from lerac_experiments.models import MODELS
from lerac_experiments.presets import PRESETS
from lerac_experiments.training import memory as counting
from lerac_experiments.training.memory import SHAPES, memory


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet-small", (3, 32, 32)),
        ("densenet-small", (3, 32, 32)),
        ("cvt-small", (3, 32, 32)),
        ("septr-small", (1, 128, 126)),
        ("bert-small", None),
        ("lstm-small", None),
    ],
)
def test_what_is_computed_up_is_what_a_step_keeps(name: str, shape: tuple[int, ...] | None) -> None:
    """With tensors that have memory, in a batch of that size."""
    spec = MODELS[name]
    parts = counting._parts(spec, shape, 7)
    model = spec.build(parts, None).train()
    size = memory(spec, shape, 7)
    # Transformers' attention makes a mask of one element here or there.
    assert size.activations == pytest.approx(counting._kept(model, parts), rel=1e-3)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "copies"), [("resnet-small", 3), ("septr-small", 4), ("cvt-small", 4)])
def test_optimizers_keep_one_copy_or_two(name: str, copies: int) -> None:
    """Beside parameters and gradients: SGD with momentum one, Adam and Adamax two; and a step for each tensor."""
    spec = MODELS[name]
    shape = (1, 128, 126) if spec.kinds[0] == "audio" else (3, 32, 32)
    size = memory(spec, shape, 2)
    assert size.state == pytest.approx(4 * copies * size.parameters, rel=1e-3)


def test_septr_keeps_tens_of_gigabytes() -> None:
    """Of each token, of which a clip of ESC-50 has 128 x 1723: 6 transformers of 26 numbers for each of 256 dimensions
    and more. Evaluated 256 at once it would take about a hundred times that."""
    size = memory(MODELS["septr"], SHAPES["esc50"], 2)
    tokens = 2 * 128 * 1723
    assert 6 * 24 * 256 * 4 * tokens < size.activations < 6 * 28 * 256 * 4 * tokens


def test_there_is_a_size_for_all_data_of_presets() -> None:
    for trials in PRESETS.values():
        for trial in trials():
            spec = MODELS[trial.model]
            assert trial.data in SHAPES or spec.encoding is not None or "detection" in spec.kinds


def test_parameters_are_not_counted_as_kept() -> None:
    class Product(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.flatten(1))

    parts = counting._parts(MODELS["lenet"], (3, 8, 8), 4)
    inputs, log_softmax, target = 4 * 3 * 8 * 8 * 4, 4 * 100 * 4, 4 * 8
    kept = counting._kept(Product(3 * 8 * 8, 100), parts)
    assert kept - (inputs + log_softmax + target) in range(0, 16)  # and how many have counted
