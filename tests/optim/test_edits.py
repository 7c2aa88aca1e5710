"""Whatever is edited between two steps is seen by the next: a plan of the step that is kept is renewed, never trusted.

Two optimizers are edited alike. One keeps its plan from step to step, the other forgets it before each and walks over
everything anew. They must agree to the bit, and raise the same errors.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh

import tests.optim.edits_of_groups
import tests.optim.edits_of_tensors  # noqa: F401  # both fill EDITS
from lerac_fast._native.extension import extension
from tests.optim.cases import Case, typical_cases
from tests.optim.edited import EDITS, World, edit_both, step_both


@pytest.mark.filterwarnings("ignore:lerac_fast.optim")
@typical_cases
@given(edits=st.lists(st.sampled_from(sorted(EDITS)), min_size=1, max_size=10), seed=st.integers(0, 2**16))
@settings(max_examples=25)
def test_random_edits(case: Case, edits: list[str], seed: int) -> None:
    kept, forgetful = World.of(case, seed), World.of(case, seed)
    for _ in range(3):  # the third is by the plan of the second
        step_both(kept, forgetful)
    for name in edits:
        edit_both(name, kept, forgetful)
        step_both(kept, forgetful)


@pytest.mark.filterwarnings("ignore:lerac_fast.optim")
@typical_cases
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("rates_in_tensors", "rate_in_place"),
        ("betas_in_lists", "betas_in_place"),
        ("groups_of_attributes", "rates_by_attribute"),
        ("states_of_attributes", "states_by_attribute"),
    ],
)
def test_what_is_edited_without_a_trace(case: Case, first: str, then: str) -> None:
    """Values that change while the group holds the same objects are never kept."""
    kept, forgetful = World.of(case, 0), World.of(case, 0)
    for name in ["nothing"] * 3 + [first, then, then]:
        edit_both(name, kept, forgetful)
        step_both(kept, forgetful)


@pytest.mark.filterwarnings("ignore:lerac_fast.optim")
@typical_cases
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("sharded", [False, True], ids=["plain", "dtensors"])
def test_each_edit(case: Case, name: str, sharded: bool, request: pytest.FixtureRequest) -> None:
    """Between two steps by the plan, and two more after it; once when so many came before that walks are forgotten."""
    if sharded:
        request.getfixturevalue("process_group")
    mesh = init_device_mesh("cpu", (1,)) if sharded else None
    for seed in range(1 if sharded else 3):
        kept, forgetful = World.of(case, seed, mesh), World.of(case, seed, mesh)
        for _ in range(extension.RENEWALS_WITHOUT_WALK + 4 if seed == 0 else 4):
            step_both(kept, forgetful)
        edit_both(name, kept, forgetful)
        for _ in range(3):
            step_both(kept, forgetful)
