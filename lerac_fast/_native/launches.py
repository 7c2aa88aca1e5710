"""Whether the compiled kernels' launches may overlap: for tests and benchmarks, which compare."""

from collections.abc import Iterator
from contextlib import contextmanager

from lerac_fast._native.extension import extension


@contextmanager
def launches_apart() -> Iterator[None]:
    """Here each launch of this process begins when the one before it has ended."""
    before = extension.let_launches_overlap(False)
    try:
        yield
    finally:
        extension.let_launches_overlap(before)
