"""LeRaC's picture."""

import copy
import io
import sys

import pytest

from lerac_fast.lerac.schedule import CURVES, lerac_factors
from lerac_fast.lerac.scheduler import LeRaC
from tests.lerac.rates import rates, run, sgd

# The picture


@pytest.mark.parametrize("curve", CURVES)
def test_plot_draws_a_line_per_group_and_changes_nothing(curve):
    pytest.importorskip("matplotlib")
    optimizer = sgd([0.1] * 5)
    curriculum = LeRaC(optimizer, 200, min_lr=1e-6, curve=curve)
    run(optimizer, curriculum, 3)
    before = copy.deepcopy(curriculum.state_dict()), rates(optimizer)
    axes = curriculum.plot().axes[0]
    assert (curriculum.state_dict(), rates(optimizer)) == before

    *lines, at_k = axes.lines
    assert len(lines) == 5
    assert list(at_k.get_xdata()) == [200, 200]
    assert axes.get_yscale() == "log"
    for line, ratio in zip(lines, curriculum.ratios, strict=True):
        steps, drawn = line.get_xdata(), line.get_ydata()
        assert steps[0] == 0
        assert steps[-1] > 200
        assert list(drawn) == [0.1 * lerac_factors([ratio, 1e-5], step, 200, curve)[0] for step in steps]


def test_plot_names_few_layers_and_gives_many_a_colour_bar():
    pytest.importorskip("matplotlib")
    few, many = sgd([0.1] * 3), sgd([0.1] * 40)
    for group, name in zip(few.param_groups, ("stem", "body", "head"), strict=True):
        group["name"] = name
    figure = LeRaC(few, 5, min_lr=1e-6).plot()
    assert [text.get_text() for text in figure.legends[0].texts] == ["stem", "body", "head"]
    figure = LeRaC(many, 10_000, min_lr=1e-6).plot()
    assert not figure.legends
    assert [axes.get_ylabel() for axes in figure.axes] == ["learning rate", "depth (1: nearest the input)"]
    figure.savefig(io.BytesIO())


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    curriculum = LeRaC(sgd([0.1] * 3), 5, min_lr=1e-6)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"lerac_fast\[plot\]"):
        curriculum.plot()
