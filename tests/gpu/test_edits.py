"""Whatever is edited between two steps is seen by the next, on a GPU as on the CPU: tests/optim/test_edits.py."""

import pytest
import torch

import tests.optim.edits_of_groups
import tests.optim.edits_of_tensors  # noqa: F401  # both fill EDITS
from tests.optim.cases import Case, typical_cases
from tests.optim.edited import EDITS, World, edit_both, step_both

pytestmark = pytest.mark.gpu


@pytest.mark.filterwarnings("ignore:lerac_fast.optim")
@typical_cases
@pytest.mark.parametrize("scale", [None, 8.0], ids=["", "scaled"])
def test_edits(case: Case, scale: float | None, device: torch.device) -> None:
    for seed, name in enumerate(EDITS):
        worlds = World.of(case, seed, device=device), World.of(case, seed, device=device)
        for edit in ["backward"] * 4 + [name] + ["backward"] * 3:
            edit_both(edit, *worlds)
            for world in worlds:
                world.scale = scale
            step_both(*worlds)
