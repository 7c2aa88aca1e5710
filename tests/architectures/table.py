"""The page `docs/architectures.md`, from the rows of the survey."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from lerac_experiments.environment import cpu_model
from tests.architectures.verdict import SLOW_SECONDS, Verdict

_KINDS = ("right", "wrong", "refused", "slow", "harmed")

_PAGE = """# `layer_groups` on public architectures

Each of {count} models, built from its configuration with random weights, was given to `layer_groups` with small example
inputs, in a process of its own.

{table}

- **right**: every trainable parameter is in one group, no two groups have one name, and the order is right. By the
  graph of autograd of a real pass, which has no part in the measurement, the weights that all uses of a weight depend
  on lie less deep than it. With `by=` a pattern for the numbered blocks of the family, the depth increases with the
  number in each stack, and decoders lie deeper than encoders. What is said to be unused has no gradient.
- **wrong**: a group or its depth is not.
- **refused**: an error, and the model is as it was.
- **slow**: more than {slow} s of processor time; the order is right.
- **harmed**: after the call an attribute of the model, however deep, a parameter, a buffer or a random stream is not
  what it was, a fake tensor is left, or a real forward and backward pass fails or has other gradients than those of a
  twin that was never given to `layer_groups`.

The call takes {median:.1f} s of processor time in the median, {longest:.1f} s at most. Not counted are {idle} models
that do not run here for reasons of their own.
{others}
Measured with {versions}, Python {python}, on {cores} cores of {processor}.
The rows are in {csv}. Repeat it with

```
make architectures
```
"""


def markdown(verdicts: Sequence[Verdict], csv: Path) -> str:
    counted = [verdict for verdict in verdicts if verdict.verdict != "does not run"]
    libraries = list(dict.fromkeys(verdict.library for verdict in counted))
    times = [verdict.processor_seconds for verdict in counted]
    return _PAGE.format(
        count=len(counted),
        table=_table(counted, libraries),
        slow=SLOW_SECONDS,
        median=median(times),
        longest=max(times),
        idle=len(verdicts) - len(counted),
        others=_others(counted),
        versions=", ".join(f"{library} {version(library)}" for library in ("torch", *libraries)),
        python=platform.python_version(),
        cores=os.cpu_count(),
        processor=cpu_model(),
        csv=_link(csv),
    )


def _link(csv: Path) -> str:
    """From the page in docs; what lies elsewhere, on this machine alone, has a name and no link."""
    if csv.parts[0] != "docs":
        return f"`{csv.name}`"
    relative = csv.relative_to("docs").as_posix()
    return f"[{relative}]({relative})"


def _table(verdicts: Sequence[Verdict], libraries: Iterable[str]) -> str:
    lines = [f"| library | models | {' | '.join(_KINDS)} |", "|---" + "|---:" * (1 + len(_KINDS)) + "|"]
    lines += [_line(library, [verdict for verdict in verdicts if verdict.library == library]) for library in libraries]
    return "\n".join([*lines, _line("all", verdicts)])


def _line(title: str, verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    return f"| {title} | {len(verdicts)} | {' | '.join(str(counts[kind]) for kind in _KINDS)} |"


def _others(verdicts: Sequence[Verdict]) -> str:
    """All that are not right, with the reason."""
    lines = [
        f"| {v.library} | {v.model} | {v.verdict} | {v.processor_seconds} | {v.reason.replace('|', chr(92) + '|')} |"
        for v in verdicts
        if v.verdict != "right"
    ]
    if not lines:
        return ""
    return "\n".join(["", "| library | model | verdict | seconds | reason |", "|---|---|---|---:|---|", *lines, ""])
