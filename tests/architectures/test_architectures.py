"""`layer_groups` harms no public architecture, and orders its layers."""

import pytest

from tests.architectures.survey import LIBRARIES, architectures, survey

pytestmark = pytest.mark.architectures

EVERY = 15


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_sample_of_architectures_is_right(library: str) -> None:
    """`make architectures` judges all of them."""
    pytest.importorskip(library)
    verdicts = list(survey(architectures([library])[::EVERY]))
    assert {verdict.model: verdict for verdict in verdicts if verdict.verdict != "right"} == {}
