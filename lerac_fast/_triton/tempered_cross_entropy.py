"""tempered_cross_entropy on any GPU that Triton compiles for. The formulae: `csrc/math/tempered_cross_entropy.h`.

Nothing waits for the device, so that bad values cannot raise: a target that is no class, or a sigma that is not
positive and finite with a finite inverse, makes the loss and the gradients of its row NaN.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from lerac_fast._native.extension import extension
from lerac_fast._triton._launch import launch
from lerac_fast._triton._math import divide, tempered_loss, tempered_loss_by_logit, tempered_loss_by_sigma

# A program holds so many logits at once: several short rows, or a part of a long one.
TILE = 1024
LONGEST_TILE = 4096
# Up to so many rows, one program reduces all losses; of more, torch does.
ROWS_OF_ONE_PROGRAM = 16384
LOGITS_PER_THREAD = 8

TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


# ---- kernels: a tile is [rows, classes] ----


@triton.jit
def _load_rows(targets, sigma, class_weights, row, there, classes, ignore_index, COMPUTE: tl.constexpr):
    """Of each row: its target and its weight, whether it counts, whether target and sigma are good, and 1 / sigma."""
    target = tl.load(targets + row, there, other=0)
    counts = there & (target != ignore_index)
    temperature = tl.load(sigma + row, there, other=1).to(COMPUTE)
    inverse_sigma = divide(tl.full(temperature.shape, 1, COMPUTE), temperature)
    infinity: tl.constexpr = float("inf")
    is_class = (target >= 0) & (target < classes)
    good = is_class & (temperature > 0) & (temperature < infinity) & (inverse_sigma < infinity)
    weight = tl.full(temperature.shape, 1, COMPUTE)
    if class_weights is not None:
        weight = tl.load(class_weights + target, counts & is_class, other=0).to(COMPUTE)
    return target, weight, counts, good, inverse_sigma


@triton.jit(do_not_specialize=["rows", "class_groups", "ignore_index"])
def forward_kernel(
    logits, targets, sigma, class_weights, losses, row_weights, statistics, label_smoothing: tl.float64,
    rows, class_groups, ignore_index,
    SMOOTHED: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Losses and statistics of `ROWS` rows, in one pass over their logits: sums are kept relative to the largest logit
    so far. `row_weights`, or None: of each row, the weight of its class, 0 if it is ignored.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    classes = class_groups * WIDTH
    label_smoothing = tl.full([], label_smoothing, COMPUTE)
    target, weight, counts, good, inverse_sigma = _load_rows(
        targets, sigma, class_weights, row, there, classes, ignore_index, COMPUTE
    )
    at_target = (1 - label_smoothing) * weight
    start = row * classes
    nothing: tl.constexpr = float("-inf")

    largest = tl.full([ROWS], nothing, COMPUTE)
    exponentials = tl.zeros([ROWS], COMPUTE)  # the sums of CrossEntropySums
    expected = tl.zeros([ROWS], COMPUTE)
    weighted = tl.zeros([ROWS], COMPUTE)
    weights = tl.zeros([ROWS], COMPUTE)
    for begin in range(0, classes, CLASSES):
        j = begin + tl.arange(0, CLASSES)[None, :]
        mask = counts[:, None] & (j < classes)
        z = tl.load(logits + start[:, None] + j, mask, other=nothing).to(COMPUTE)
        before = largest
        largest = tl.maximum(before, tl.max(z, 1))  # they may pass over NaN, which the sums keep
        base = tl.where(largest == nothing, 0, largest)  # where all classes so far cannot be
        shift = tl.where(before == nothing, 0, before - base)
        scale = tl.exp(shift * inverse_sigma)
        below = z - base[:, None]
        e = tl.exp(below * inverse_sigma[:, None])
        expected = scale * (expected + exponentials * shift)
        expected += tl.sum(tl.where(e == 0, 0, e * below), 1)  # -inf is a class that cannot be
        exponentials = scale * exponentials + tl.sum(e, 1)
        if SMOOTHED:
            class_weight = tl.where(j < classes, tl.full(z.shape, 1, COMPUTE), 0)
            if class_weights is not None:
                class_weight = tl.load(class_weights + j, j < classes, other=0).to(COMPUTE)
            weighted += weights * shift + tl.sum(tl.where(mask, below * class_weight, 0), 1)
            weights += tl.sum(class_weight, 1)

    at = tl.load(logits + start + target, counts & good, other=float("nan")).to(COMPUTE)
    aimed = at_target * (at - largest)
    wanted = at_target
    if SMOOTHED:
        per_class = divide(label_smoothing, tl.full([], classes, COMPUTE))
        aimed += per_class * weighted
        wanted += per_class * weights
    log_of_exponentials = tl.log(exponentials)
    loss = tempered_loss(wanted, aimed, log_of_exponentials, inverse_sigma)
    by_sigma = tempered_loss_by_sigma(exponentials, expected, wanted, aimed, inverse_sigma)
    loss = tl.where(counts, tl.where(good, loss, float("nan")), 0)
    by_sigma = tl.where(counts, tl.where(good, by_sigma, float("nan")), 0)
    tl.store(losses + row, loss, there)
    tl.store(statistics + row * 4, tl.where(counts, largest, 0), there)
    tl.store(statistics + row * 4 + 1, tl.where(counts, log_of_exponentials, 0), there)
    tl.store(statistics + row * 4 + 2, by_sigma, there)
    tl.store(statistics + row * 4 + 3, tl.where(counts, tl.full([ROWS], 1, COMPUTE), 0), there)
    if row_weights is not None:
        tl.store(row_weights + row, tl.where(counts, weight, 0), there)


@triton.jit(do_not_specialize=["rows"])
def finish_kernel(
    losses, row_weights, statistics, result, rows, MEAN: tl.constexpr, ROWS: tl.constexpr, COMPUTE: tl.constexpr
):  # fmt: skip
    """One program: the sum of all losses, or their weighted mean and the rows' shares in it. The order of the sums, and
    so their bits, depends on nothing but the number of rows.
    """
    total = tl.zeros([ROWS], tl.float64)
    weight = tl.zeros([ROWS], tl.float64)
    for begin in range(0, rows, ROWS):
        row = begin + tl.arange(0, ROWS)
        total += tl.load(losses + row, row < rows, other=0).to(tl.float64)
        if MEAN:
            weight += tl.load(row_weights + row, row < rows, other=0).to(tl.float64)
    total = tl.sum(total, 0)
    if MEAN:
        weight = tl.sum(weight, 0)
        total = total / weight
        share = (1 / weight).to(COMPUTE)
        for begin in range(0, rows, ROWS):
            row = begin + tl.arange(0, ROWS)
            shares = statistics + row * 4 + 3
            counts = tl.load(shares, row < rows, other=0) != 0
            tl.store(shares, tl.full([ROWS], share, COMPUTE), counts)
    tl.store(result, total.to(COMPUTE))


@triton.jit(do_not_specialize=["gradient_stride", "rows", "class_groups", "ignore_index"])
def backward_kernel(
    gradient, gradient_stride, logits, targets, sigma, class_weights, sum_of_class_weights, statistics,
    by_logits, by_sigma, label_smoothing: tl.float64, rows, class_groups, ignore_index,
    SMOOTHED: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """The gradients of `ROWS` rows for `CLASSES` of their logits, and for sigma."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    classes = class_groups * WIDTH
    label_smoothing = tl.full([], label_smoothing, COMPUTE)
    target, weight, counts, good, inverse_sigma = _load_rows(
        targets, sigma, class_weights, row, there, classes, ignore_index, COMPUTE
    )
    wanted = (1 - label_smoothing) * weight
    largest = tl.load(statistics + row * 4, there, other=0)
    log_of_exponentials = tl.load(statistics + row * 4 + 1, there, other=0)
    loss_by_sigma = tl.load(statistics + row * 4 + 2, there, other=0)
    share = tl.load(statistics + row * 4 + 3, there, other=0)
    by_loss = tl.load(gradient + row * gradient_stride, there, other=0).to(COMPUTE) * share
    tl.store(by_sigma + row, by_loss * loss_by_sigma, there & (tl.program_id(1) == 0))

    j = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)[None, :]
    offsets = (row * classes)[:, None] + j
    mask = there[:, None] & (j < classes)
    z = tl.load(logits + offsets, mask & counts[:, None], other=0).to(COMPUTE)
    p = tl.exp((z - largest[:, None]) * inverse_sigma[:, None] - log_of_exponentials[:, None])
    q = tl.where(j == target[:, None], wanted[:, None], 0)
    if SMOOTHED:
        per_class = divide(label_smoothing, tl.full([], classes, COMPUTE))
        if class_weights is None:
            q += per_class
            wanted += label_smoothing
        else:
            q += per_class * tl.load(class_weights + j, j < classes, other=0).to(COMPUTE)
            wanted += per_class * tl.load(sum_of_class_weights)
    gradient_by_sigma = tl.where(good, by_loss * inverse_sigma, float("nan"))
    result = tempered_loss_by_logit(p, q, wanted[:, None], gradient_by_sigma[:, None])
    tl.store(by_logits + offsets, tl.where((share != 0)[:, None], result, 0), mask)


# ---- launches ----


def forward(
    logits: Tensor,
    targets: Tensor,
    sigma: Tensor,
    weight: Tensor | None,
    reduction: str,
    label_smoothing: float,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """The result, of the wider dtype of `logits` and `sigma`, and of every row what `backward` needs to know:
    [rows, 4] = its largest logit, the logarithm of the sum of exponentials, the derivative of its loss by sigma, and
    the share of its loss in the result.
    """
    extension.check_tempered_cross_entropy(logits, targets, sigma, weight, reduction, label_smoothing)
    compute = _compute_type(logits)
    result_type = torch.promote_types(logits.dtype, sigma.dtype)
    rows = targets.numel()
    statistics = logits.new_empty((rows, 4), dtype=compute)
    losses = logits.new_empty(targets.shape, dtype=result_type if reduction == "none" else compute)
    row_weights = losses.new_empty(rows) if reduction == "mean" else None
    z = _classes_last(logits)
    tile = _tile(z)
    launch(
        forward_kernel, (triton.cdiv(rows, tile["ROWS"]),), _threads(tile, compute),
        z, z, targets.contiguous(), sigma.contiguous(), _contiguous(weight), losses, row_weights, statistics,
        label_smoothing, rows, z.size(-1) // tile["WIDTH"], ignore_index,
        SMOOTHED=label_smoothing != 0, COMPUTE=TYPES[compute], **tile,
    )  # fmt: skip
    if reduction == "none":
        return losses, statistics
    if rows <= ROWS_OF_ONE_PROGRAM:
        result = logits.new_empty((), dtype=result_type)
        launch(
            finish_kernel, (1,), TILE // LOGITS_PER_THREAD, result, losses, row_weights, statistics, result, rows,
            MEAN=reduction == "mean", ROWS=TILE, COMPUTE=TYPES[compute],
        )  # fmt: skip
        return result, statistics
    total = losses.sum(dtype=torch.float64)
    if row_weights is not None:
        of_all = row_weights.sum(dtype=torch.float64)
        total /= of_all
        share = statistics[:, 3]
        share.copy_(torch.where(share == 0, 0, 1 / of_all))
    return total.to(result_type), statistics


def backward(
    gradient: Tensor,
    logits: Tensor,
    targets: Tensor,
    sigma: Tensor,
    weight: Tensor | None,
    statistics: Tensor,
    label_smoothing: float,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """The derivatives by `logits` and by `sigma`; `gradient` is that of the result, a number or one for each row."""
    extension.check_tempered_cross_entropy_backward(
        gradient, logits, targets, sigma, weight, statistics, label_smoothing
    )
    rows = targets.numel()
    by_sigma = torch.empty(targets.shape, dtype=sigma.dtype, device=sigma.device)
    by_logits = torch.empty_like(logits)
    view = by_logits if logits.dim() <= 2 else by_logits.movedim(1, -1)
    out = view if view.is_contiguous() else torch.empty(view.shape, dtype=view.dtype, device=view.device)
    z = _classes_last(logits)
    tile = _tile(z)
    sum_of_weights = None if weight is None or label_smoothing == 0 else weight.sum(dtype=statistics.dtype)
    grid = triton.cdiv(rows, tile["ROWS"]), max(1, triton.cdiv(z.size(-1), tile["CLASSES"]))
    launch(
        backward_kernel, grid, _threads(tile, statistics.dtype),
        z, gradient.contiguous(), int(gradient.numel() > 1), z, targets.contiguous(), sigma.contiguous(),
        _contiguous(weight), sum_of_weights, statistics.contiguous(),
        out, by_sigma, label_smoothing, rows, z.size(-1) // tile["WIDTH"], ignore_index,
        SMOOTHED=label_smoothing != 0, COMPUTE=TYPES[statistics.dtype], **tile,
    )  # fmt: skip
    if out is not view:
        view.copy_(out)
    return by_logits, by_sigma


def _compute_type(logits: Tensor) -> torch.dtype:
    if logits.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise ValueError(
            f"tempered_cross_entropy: logits are of {logits.dtype}; on a GPU they may be float32, float64, bfloat16 "
            "or float16"
        )
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _classes_last(logits: Tensor) -> Tensor:
    return (logits if logits.dim() <= 2 else logits.movedim(1, -1)).contiguous()


def _contiguous(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.contiguous()


def _tile(z: Tensor) -> dict[str, int]:
    """Rows and classes of a program's tile, and how many logits are loaded at once, which divides rows evenly."""
    classes = z.size(-1)
    at_once = min(LONGEST_TILE, triton.next_power_of_2(max(1, classes)))
    aligned = 16 // z.element_size() if z.data_ptr() % 16 == 0 else 1
    return {"ROWS": max(1, TILE // at_once), "CLASSES": at_once, "WIDTH": math.gcd(aligned, classes)}


def _threads(tile: dict[str, int], compute: torch.dtype) -> int:
    """Of which each holds a few logits in its registers: half as many in float64."""
    return tile["ROWS"] * tile["CLASSES"] // (LOGITS_PER_THREAD * 4 // compute.itemsize)
