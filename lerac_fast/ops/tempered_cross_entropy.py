"""Cross entropy of logits divided by a temperature of their own, with the derivative for the temperature.

Schema: `csrc/schemas.cpp`; formulae: `csrc/math/tempered_cross_entropy.h`; checks, fake kernel and derivatives:
`csrc/ops/tempered_cross_entropy.cpp`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lerac_fast._native.extension import extension as extension  # registers the ops


def tempered_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    sigma: float | Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross entropy of `logits / sigma`, where every example has its own temperature sigma.

    With sigma = 1 it is `torch.nn.functional.cross_entropy`. Each direction reads the logits once. float16 and
    bfloat16 are computed in float32.

    Args:
        logits: `[N, C]`, `[N, C, d1, ...]` or `[C]`, unnormalised; float32, float64, bfloat16 or float16. Where
            the classes are not innermost in memory they are copied there first.
        targets: class indices, int64, `[N]`, `[N, d1, ...]` or `[]`.
        sigma: temperatures, positive and finite, of a shape that broadcasts to that of `targets`. Gets a gradient.
        weight: `[C]`, the weight of each class, as in torch. Gets no gradient.
        ignore_index: examples with this target count for nothing.
        reduction: "mean" (weighted, over the examples that count), "sum" or "none".
        label_smoothing: the share of the wanted probability that is spread evenly over all classes.

    Returns:
        The loss, a scalar or, with "none", of the shape of `targets`; of the wider dtype of `logits` and `sigma`.

    Raises:
        ValueError: a target is no class, a sigma is not positive, or shapes, dtypes, devices or options make no sense.
            The message names the value. On a GPU, where reading values would mean waiting for it, such a target or
            sigma makes the loss of its example NaN instead.

    Source: Saxena, Tuzel and DeCoste, "Data Parameters", NeurIPS 2019, Eqs. 1, 3 and 4.
    """
    if not isinstance(sigma, Tensor):
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        sigma = torch.scalar_tensor(sigma, dtype=dtype, device=logits.device)
    loss: Tensor = torch.ops.lerac_fast.tempered_cross_entropy(
        logits, targets, sigma, weight, reduction, label_smoothing, ignore_index
    )
    return loss
