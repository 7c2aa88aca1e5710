"""Param groups in any layout, for hypothesis."""

from collections.abc import Sequence

from hypothesis import strategies as st

Layout = list[list[str]]
"""The names of the parameters of each group."""


@st.composite
def layouts(draw: st.DrawFn, of: Sequence[str]) -> Layout:
    """Any order of these parameters in any number of groups."""
    names = draw(st.permutations(of))
    cuts = sorted(draw(st.sets(st.integers(1, len(of) - 1))))
    return [names[i:j] for i, j in zip([0, *cuts], [*cuts, len(of)], strict=True)]
