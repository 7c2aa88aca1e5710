"""Temperatures by whether labels are right."""

import pytest
import torch

from lerac_experiments.demos.sigma import SigmaHistory, Spread


def test_spread() -> None:
    spread = Spread.of(torch.tensor([4.0, 1.0, 2.0, 3.0, 10.0]))
    assert spread.mean == pytest.approx(4.0)
    assert spread.quartiles == pytest.approx((2.0, 3.0, 4.0))


def test_found_is_the_share_of_wrong_labels_on_top() -> None:
    corrupt = torch.tensor([True, False, True, False, False])
    history = SigmaHistory()
    for sigma in ([5.0, 1.0, 4.0, 2.0, 3.0], [5.0, 1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0, 4.0]):
        history.record(torch.tensor(sigma), corrupt)
    assert history.found == [1.0, 0.5, 0.0]
    assert [spread.mean for spread in history.corrupt] == [4.5, 3.5, 1.5]
    assert [spread.mean for spread in history.clean] == pytest.approx([2.0, 8 / 3, 4.0])
