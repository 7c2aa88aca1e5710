"""How much of a layer's output is signal and how much is noise of the random initialisation, and how uncertain it is.

LeRaC rests on the claim that random initial weights let noise grow from layer to layer, and the authors' review says
that an ideal schedule sets each layer's rate in proportion to its signal-to-noise ratio, which they found to fall
exponentially with depth. They print no definition of the ratio. The one of this module is in `signal_to_noise`.

Sources: Croitoru et al., "Learning Rate Curriculum", section 3, and its review; Kornblith et al., "Similarity of Neural
Network Representations Revisited" (ICML 2019), for CKA; Székely and Rizzo, "Partial distance correlation with methods
for dissimilarities" (2014), for the unbiased centring.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, count
from statistics import correlation, fmean, linear_regression
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves, tree_map_only

from lerac_fast._wrappers import named_modules, unwrap
from lerac_fast.layers._depth import parameter_places
from lerac_fast.layers._sharded import is_sharded
from lerac_fast.layers._traces import left_as_found, plain_execution
from lerac_fast.layers.groups import call_arguments, layer_groups
from lerac_fast.lerac.schedule import depth_ranks

ENTROPY_BINS = 32
_MAX_UNITS = 4096  # whose entropies are averaged, evenly spaced among those of a layer
LOWEST_SNR, HIGHEST_SNR = 1e-3, 1e3
"""What lies beyond counts as these where ratios are compared: a batch cannot tell less from 0, and of a layer that has
no noise, such as a projection of a single channel, rounding decides the ratio."""


@dataclass(frozen=True)
class LayerSignal:
    """What `signal_to_noise` found of a layer."""

    name: str
    depth: int
    """From 1 at the input, as in `layer_groups`."""
    snr: float
    """At least 0; above 1, the signal outweighs the noise."""
    entropy: float
    """In bits, from 0 to 5, the logarithm of `ENTROPY_BINS`."""


class Decay(NamedTuple):
    """The curve start * exp(-rate * depth)."""

    rate: float
    """Per layer; negative if the ratio rises with depth."""
    start: float
    r_squared: float
    """The share of the variance of log(snr) that the curve explains."""


def signal_to_noise(
    model: nn.Module,
    inputs: Any,
    groups: Sequence[dict[str, Any]] | None = None,
    *,
    draws: int = 5,
    seed: int = 0,
) -> list[LayerSignal]:
    """Measures every layer's signal-to-noise ratio and entropy on a batch of inputs, without labels or gradients.

    **Signal** is what a layer says about the examples whatever the random weights; **noise** is what another draw of
    the weights would change. What it says is the matrix K of the similarities (inner products) of its outputs for each
    pair of examples, [B, B], U-centred and of norm 1. Over independent draws of all weights, K = S + N with the mean S
    and the deviation N, and:

        SNR = |S|^2 / E|N|^2 = c / (1 - c)

    where c is the expected inner product of the K of two draws: their debiased linear CKA. It is estimated by the mean
    over the pairs of `draws` draws, and is 0 where c is not positive. The ratio does not change with the scale, offset
    or an orthogonal map of the outputs. It does with their number, since wide layers average noise away.

    The given weights are the first draw. The others are made of it: the nonzero entries of each trainable parameter
    are shuffled. To initialisations that draw them independently from one distribution, as almost all do, that is a
    new draw, whatever the distribution and without knowing it; constants (biases of 0, the weights of norms, padding
    rows) stay. So the model is to have its initial weights. Of a trained one this measures a random network with
    weights of such sizes. Frozen parameters are the same in all draws.

    **Entropy** is that of the activation of a single unit over the examples: a histogram with 32 bins between the
    smallest and the largest activation of the layer, in bits, averaged over units (at most 4096, evenly spaced) and
    draws.

    The layers run as in the first training step, apart from what is random in it: batch norms keep their mode (on the
    batch's statistics in a model in training mode), all other modules are in evaluation mode. The model is left as it
    was, and so is the random state.

    Args:
        model: on any device; wrappers of compilation and data parallelism are seen through.
        inputs: a batch of at least 4 real inputs, as `example_inputs` of `layer_groups`.
        groups: the layers, as made by `layer_groups` (the default, with these inputs): the output of a layer is that
            of the module with its name or, in groups of other names, of the last module to run that owns a parameter
            of theirs. Of several outputs the first tensor counts, and of several calls the first.
        draws: of the weights, at least 2: one forward pass for each.
        seed: of the shuffling.

    Returns:
        The layers in the order of `groups`. Those that do not run, or have no module (parameters of the model itself)
        or no output per example, are not among them, and a UserWarning names them.

    Raises:
        ValueError: fewer than 4 examples or 2 draws, no measurable layer, outputs that are not finite, parameters in
            `groups` that are not the model's, or a model that is sharded.
    """
    if draws < 2:
        raise ValueError(f"draws={draws!r} must be at least 2: the noise is in their differences")
    model = unwrap(model)
    if is_sharded(model):
        raise ValueError(
            f"the {type(model).__name__} is sharded, and no process holds the weights to draw from: measure it before, "
            "on the same inputs in all of them, and give LeRaC initial_lrs in proportion to snr_ratios(signals, groups)"
        )
    args, kwargs = call_arguments(model, inputs, None)
    examples = next((t.shape[0] for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.ndim), 0)
    if examples < 4:
        raise ValueError(f"inputs has {examples} examples: the ratio of signal to noise takes 4, and better hundreds")
    layers = _layers(model, layer_groups(model, example_inputs=inputs) if groups is None else groups)
    clock = count()
    observed = {module: _Observed(examples, clock) for layer in layers for module in layer.modules}
    generator = torch.Generator().manual_seed(seed)
    with left_as_found(model), plain_execution(), torch.no_grad(), _hooked(observed):
        for module in model.modules():
            module.training &= isinstance(module, _NormBase)
        for draw in range(draws):
            tensors = {name: _drawn(p, generator) if draw else p.detach() for name, p in model.named_parameters()}
            # Copies, as batch norms write to their buffers, and models may to their inputs.
            tensors.update((name, buffer.clone()) for name, buffer in model.named_buffers())
            copies = tree_map_only(Tensor, torch.clone, (args, kwargs))
            functional_call(model, tensors, *copies)
            for watch in observed.values():
                watch.seen = False
    return _signals(layers, observed, draws)


def decay_rate(signals: Sequence[LayerSignal]) -> Decay:
    """Fits snr = start * exp(-rate * depth) by least squares in the logarithm, every layer with the same weight.

    Raises ValueError if the layers have fewer than two depths.
    """
    depths = [float(signal.depth) for signal in signals]
    if len(set(depths)) < 2:
        raise ValueError(f"{len(signals)} layers of {len(set(depths))} depths have no decay with depth")
    logs = [math.log(_within_range(signal.snr)) for signal in signals]
    slope, intercept = linear_regression(depths, logs)
    r_squared = correlation(depths, logs) ** 2 if len(set(logs)) > 1 else 1.0
    return Decay(-slope, math.exp(intercept), r_squared)


def snr_ratios(
    signals: Sequence[LayerSignal], groups: Sequence[dict[str, Any]], lowest: float | None = None
) -> list[float]:
    """Initial ratios of learning rates, one per param group, in proportion to the signal-to-noise ratio at its depth.

    Layers of the same depth share the mean of their ratios, and a depth never has more than a shallower one (Eq. 6): a
    running minimum from the input, relative to the first depth. Depths that were not measured have what the depth
    before them has.

    Args:
        signals: of these `groups`, by `signal_to_noise`.
        lowest: the ratio of the deepest layers. The curve is stretched to it in the logarithm, that is, raised to a
            power. None: as measured.

    Raises ValueError if `lowest` is not in (0, 1], or if there is no drop to be stretched to it.
    """
    if lowest is not None and not 0.0 < lowest <= 1.0:
        raise ValueError(f"lowest={lowest!r} must be above 0 and at most 1")
    measured: dict[int, list[float]] = {}
    for signal in signals:
        measured.setdefault(signal.depth, []).append(_within_range(signal.snr))
    depths = _depths(groups)
    ordered = sorted(set(depths))
    lows = list(accumulate((fmean(measured.get(depth, [math.inf])) for depth in ordered), min))
    highest = next((low for low in lows if low < math.inf), 1.0)
    ratios = [min(1.0, low / highest) for low in lows]
    if lowest is not None:
        if ratios[-1] == 1.0 > lowest:
            raise ValueError(f"the signal-to-noise ratio, {highest:g}, does not fall with depth: nothing to stretch")
        power = math.log(lowest) / math.log(ratios[-1]) if lowest < 1.0 else 0.0
        ratios = [ratio**power for ratio in ratios]
    by_depth = dict(zip(ordered, ratios, strict=True))
    return [by_depth[depth] for depth in depths]


def _within_range(snr: float) -> float:
    return min(max(snr, LOWEST_SNR), HIGHEST_SNR)


class _Layer(NamedTuple):
    name: str
    depth: int
    modules: list[nn.Module]
    """One of these has its output: the last one to run."""


def _depths(groups: Sequence[dict[str, Any]]) -> list[int]:
    return [1 + rank for rank in depth_ranks(groups)]


def _layers(model: nn.Module, groups: Sequence[dict[str, Any]]) -> list[_Layer]:
    named = named_modules(model)
    owners: dict[nn.Parameter, list[nn.Module]] = {}
    for place in parameter_places(model).values():
        owners.setdefault(place.parameter, []).append(place.owner)
    layers: dict[tuple[str, int], _Layer] = {}
    for j, (group, depth) in enumerate(zip(groups, _depths(groups), strict=True)):
        name = str(group.get("name", f"group {j}"))
        foreign = [tuple(p.shape) for p in group["params"] if p not in owners]
        if foreign:
            raise ValueError(f"param group {name!r} has parameters that are not the model's, of shapes {foreign}")
        if name in named:
            outer = named.get(name.rpartition(".")[0])
            # It uses the weights of its projection without calling it.
            modules = [outer if isinstance(outer, nn.MultiheadAttention) else named[name]]
        else:
            # The output of the model itself is none of a layer's.
            modules = [owner for p in group["params"] for owner in owners[p] if owner is not model]
        # Groups that differ in their options are one layer.
        layers.setdefault((name, depth), _Layer(name, depth, [])).modules.extend(modules)
    return list(layers.values())


class _Observed:
    """What the draws have shown of one module's output."""

    def __init__(self, examples: int, clock: Iterator[int]) -> None:
        self.examples = examples
        self.similarities = torch.zeros(examples, examples, dtype=torch.float64)
        """The sum over the draws of K, as `signal_to_noise` has it."""
        self.entropies: list[float] = []
        self.seen = False
        """In this draw."""
        self.order = -1
        """When it ran, of the modules with the same clock."""
        self._clock = clock

    def hook(self, module: nn.Module, _: Any, output: Any) -> None:
        """Counts the first output of a draw, if it is one per example."""
        outputs = None if self.seen else _per_example(module, output, self.examples)
        if outputs is not None:
            self.seen = True
            self.order = next(self._clock)
            self.similarities += similarity(outputs)
            self.entropies.append(unit_entropy(outputs))


@contextmanager
def _hooked(observed: Mapping[nn.Module, _Observed]) -> Iterator[None]:
    with ExitStack() as stack:
        for module, watch in observed.items():
            stack.enter_context(module.register_forward_hook(watch.hook))
        yield


def _drawn(parameter: nn.Parameter, generator: torch.Generator) -> Tensor:
    """A new draw of the weights that `parameter` was initialised with, from its own entries."""
    values = parameter.detach()
    if not parameter.requires_grad:
        return values
    values = values.clone()
    nonzero = values != 0
    entries = values[nonzero]
    values[nonzero] = entries[torch.randperm(len(entries), generator=generator).to(entries.device)]
    return values


def _per_example(module: nn.Module, output: Any, examples: int) -> Tensor | None:
    """The first tensor of a module's output as float [B, units]; None if its rows are not those of the examples."""
    leaves = tree_leaves(output, is_leaf=lambda node: isinstance(node, PackedSequence))
    if leaves and isinstance(leaves[0], PackedSequence):
        leaves = [pad_packed_sequence(leaves[0], batch_first=True)[0]]
    elif getattr(module, "batch_first", True) is False:  # [T, B, C]
        leaves = [leaf.transpose(0, 1) if isinstance(leaf, Tensor) and leaf.ndim == 3 else leaf for leaf in leaves]
    tensor = next((t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()), None)
    if tensor is None or tensor.ndim == 0 or tensor.numel() == 0 or tensor.shape[0] % examples:
        return None
    rows = tensor.detach().reshape(examples, -1)  # of windows or patches, [B * windows, ...], all of an example
    return rows if rows.dtype == torch.float64 else rows.float()


def similarity(outputs: Tensor) -> Tensor:
    """The U-centred matrix of the inner products of the rows of `outputs` [B, units], of norm 1: float64 [B, B].

    It is 0 if the rows are equal. Its inner product with another such matrix is their debiased linear CKA.
    """
    examples = len(outputs)
    # Less the first row, which centring undoes and rounding does not: equal rows are exactly 0 then.
    outputs = outputs - outputs[:1]
    gram = (outputs @ outputs.T).cpu().double().fill_diagonal_(0.0)
    means = gram.sum(0) / (examples - 2)
    gram += means.sum() / (examples - 1) - means[:, None] - means[None, :]
    gram.fill_diagonal_(0.0)
    norm = gram.norm()
    return gram / norm if norm != 0 else gram


def unit_entropy(outputs: Tensor) -> float:
    """The entropy of a unit's activation in bits, mean over units: `outputs` is [B, units]."""
    low, high = outputs.min(), outputs.max()
    if low == high:
        return 0.0
    examples, units = outputs.shape
    chosen = torch.linspace(0, units - 1, min(units, _MAX_UNITS), dtype=torch.float64).round().long()
    scaled = (outputs[:, chosen.to(outputs.device)] - low) * (ENTROPY_BINS / (high - low))
    bins = scaled.cpu().nan_to_num().long().clamp(0, ENTROPY_BINS - 1)
    shares = torch.zeros(len(chosen), ENTROPY_BINS, dtype=torch.float64)
    shares.scatter_add_(1, bins.T, torch.full((len(chosen), examples), 1.0 / examples, dtype=torch.float64))
    return float(torch.special.entr(shares).sum(1).mean()) / math.log(2.0)


def _signals(layers: Sequence[_Layer], observed: Mapping[nn.Module, _Observed], draws: int) -> list[LayerSignal]:
    signals = []
    unmeasured = []
    for name, depth, modules in layers:
        last = max((observed[m] for m in modules if observed[m].entropies), key=lambda w: w.order, default=None)
        if last is None:
            unmeasured.append(name)
            continue
        # Of K with norm 1, the sum over pairs of draws of their inner products.
        pairs = float(last.similarities.square().sum()) - draws
        agreement = pairs / (draws * (draws - 1))
        if not math.isfinite(agreement):
            raise ValueError(f"the output of {name!r} is not finite")
        snr = max(0.0, agreement) / max(1.0 - agreement, torch.finfo(torch.float64).eps)
        signals.append(LayerSignal(name, depth, snr, fmean(last.entropies)))
    if not signals:
        raise ValueError(f"none of the layers can be measured: {', '.join(unmeasured)}")
    if unmeasured:
        warnings.warn(
            f"not measured, for want of an output per example: {', '.join(unmeasured)}", UserWarning, stacklevel=3
        )
    return signals
