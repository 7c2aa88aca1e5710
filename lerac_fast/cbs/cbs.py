"""CBS, curriculum by smoothing: pure functions of floats, and a class that smooths feature maps through hooks.

Source: Sinha, Garg and Larochelle, "Curriculum by Smoothing", NeurIPS 2020. Retirement, from when on smoothing is the
identity up to rounding and costs nothing, is this library's choice, as are the sites other than convolutions.
"""

from __future__ import annotations

import math
import sys
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import nn

from lerac_fast._wrappers import unwrap
from lerac_fast.cbs._hooks import DTYPES, Site, Smoothing, SmoothingHook, hook_for
from lerac_fast.cbs.sites import Where, find_sites
from lerac_fast.ops.gaussian_smooth import extension


def smoothing_sigma(step: int, sigma: float, decay: float = 0.9, every: int = 5) -> float:
    """The width of the Gaussian after `step` steps: sigma_e = sigma_0 * d^floor(e / u)."""
    return sigma * decay ** (step // every)


def neighbour_weight(sigma: float, kernel_size: int) -> float:
    """w(1), the normalised weight that a Gaussian along one axis gives to each of the two nearest neighbours."""
    if sigma == 0 or kernel_size == 1:
        return 0.0
    scale = 1.0 / sigma  # squared by multiplication, which overflows to infinity; the square of sigma could vanish
    nearest = math.exp(-0.5 * scale * scale)
    total: float = extension.gaussian_sum(kernel_size // 2, sigma)
    return nearest / total


def is_identity(sigma: float, kernel_size: int, dtype: torch.dtype) -> bool:
    """Whether smoothing changes nothing up to rounding: w(1) is below half an ulp of 1 in `dtype`."""
    return neighbour_weight(sigma, kernel_size) < torch.finfo(dtype).eps / 2


def retirement_step(sigma: float, decay: float, every: int, kernel_size: int, dtype: torch.dtype) -> int | None:
    """The first step at which smoothing `is_identity`; None if there is none, as `decay` is 1."""

    def retired(times: int) -> bool:
        return is_identity(smoothing_sigma(times, sigma, decay, every=1), kernel_size, dtype)

    if decay == 1 and not retired(0):
        return None
    bound = 1
    while not retired(bound):
        bound *= 2
    return every * bisect_left(range(bound), True, key=retired)


class CBS:
    """Curriculum by smoothing: feature maps are convolved with a Gaussian whose width falls to nothing.

    By default the output of every convolution wider than 1 is smoothed, before its norm, along its spatial axes, by a
    normalised k x k Gaussian with zeros beyond the borders; in training and in evaluation, as switching it off shifts
    the statistics of batch norms. Call `step()` once per epoch: after e steps the width is
    sigma_e = sigma * decay^floor(e / every) (Sinha, Garg and Larochelle, "Curriculum by Smoothing").

    Once the weight of the nearest neighbour is below half an ulp of 1, smoothing is the identity up to rounding and
    retires, at the step `retires_at`: the hooks are gone and nothing is left to pay for. Half an ulp is that of the
    finest dtype of the parameters of the sites, and maps of a coarser one (under autocast) are done earlier. Retirement
    is this library's choice; the authors smooth to the end.

    Examples:
        >>> smoothing = CBS(model, sigma=1.0, decay=0.9, every=5)
        >>> for epoch in range(epochs):
        ...     train(model)
        ...     validate(model)
        ...     smoothing.step()

    Args:
        model: wrappers of torch.compile, DataParallel and DistributedDataParallel are seen through; `fully_shard` and
            activation checkpointing may come before or after. Its modules, buffers and state dict stay as they are. The
            output of a convolution is smoothed in place where nobody else can hold it.
        sigma: the initial width, in elements of the map, 0 or more; 0 is no smoothing.
        decay: what the width is multiplied by, above 0 and at most 1; with 1 it never retires.
        every: after how many steps. In iterations, if `step()` is called once per iteration.
        kernel_size: elements that the Gaussian covers along each axis: odd. 1 is no smoothing.
        where: the modules whose output is smoothed, in place of the default.

            - a regular expression, or a sequence of them, for the names of modules in the unwrapped model, matched in
              full: `r"layer[12]\\..*conv\\d"`. A convolution that is named is smoothed whatever its width. The
              authors smooth a VGG's maps only where a pooling follows, five in all: those of torchvision's `vgg16` are
              `r"features\\.(2|7|14|21|28)"`, of its `vgg16_bn` `r"features\\.(3|10|20|30|40)"`.
            - a mapping from such expressions to `Tokens`, which tells along which
              axes modules that are not convolutions are smoothed (with class tokens and padding left alone), or None:
              `{r"encoder\\.layers\\.\\d+": Tokens(padding="src_key_padding_mask"), "lstm": Tokens()}`. The first
              that matches counts.
            - a function from a module's name and the module to True, Tokens, or False or None.

    Attributes:
        initial_sigma, decay, every, kernel_size: as given.
        steps: the number of calls of `step()`.

    Copies: a deep copy of the model shares the schedule and is smoothed as long as the original is. A pickled model is
    smoothed, once loaded, as when it was saved; pickled together with its CBS, it stays connected to it. Where the CBS
    that smooths a model is gone, or the model is a copy, a new one takes over.

    Compiled code: torch.compile does not notice hooks that come after it has run, so if any code has been compiled
    when hooks are attached, `torch.compiler.reset()` is called and all of it is compiled again at its next use. Steps
    do not recompile; retirement does, once, and leaves no trace in the compiled code.

    Raises:
        ValueError: a value makes no sense, a module that is no convolution is selected without Tokens, or a module is
            smoothed already by another CBS. Nothing is attached then.
        TypeError: an argument is of the wrong kind.

    Warns with UserWarning if nothing is selected, or if a pattern matches nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        sigma: float = 1.0,
        decay: float = 0.9,
        every: int = 5,
        kernel_size: int = 3,
        where: Where | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        _check(sigma, decay, every, kernel_size)
        self.initial_sigma = float(sigma)
        self.decay = float(decay)
        self.every = every
        self.kernel_size = kernel_size
        self.steps = 0
        sites = find_sites(model, where)
        self._dtype = _finest_dtype(sites)
        self._smoothing = Smoothing(self.initial_sigma, kernel_size)
        self._hooks = [(site.name, site.module, hook_for(site, self._smoothing)) for site in sites]
        self._attached = False
        self._removed = False
        self._check_unowned()
        for module in unwrap(model).modules():
            _detach_ownerless(module)
        self._smoothing.owner = weakref.ref(self)
        self._update()

    @property
    def sigma(self) -> float:
        """The width at this step. What is below the threshold of `retires_at` is not applied."""
        return smoothing_sigma(self.steps, self.initial_sigma, self.decay, self.every)

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the modules whose output is smoothed until retirement."""
        return tuple(name for name, _, _ in self._hooks)

    @property
    def retires_at(self) -> int | None:
        """The number of steps from which on nothing is smoothed; None if `decay` is 1."""
        return retirement_step(self.initial_sigma, self.decay, self.every, self.kernel_size, self._dtype)

    @property
    def active(self) -> bool:
        """Whether outputs are smoothed: neither retired nor removed, and with something to smooth."""
        return self._attached

    def step(self) -> None:
        """Count an epoch (or an iteration) and set the width that follows.

        Call it after the backward pass: that of a loss that was computed before raises RuntimeError if the width has
        changed, and layers under torch.utils.checkpoint are then computed again with the new width, unnoticed.
        """
        self.steps += 1
        self._update()

    def remove(self) -> None:
        """Smooth no more, for good: detach all hooks. Leaving a `with CBS(...)` block does so, too."""
        self._removed = True
        self._update()

    def __enter__(self) -> CBS:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def state_dict(self) -> dict[str, Any]:
        """The schedule and where it stands, for `load_state_dict`; the sites are not part of it."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the CBS stood whose state this is, with its schedule: attaches or detaches hooks as needed.

        Raises ValueError or TypeError, having changed nothing, if `state_dict` is not one of CBS, or if another CBS has
        come to smooth the modules since this one retired.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a mapping, not {type(state_dict).__name__}")
        if state_dict.keys() != set(_STATE):
            raise ValueError(f"the state of a CBS has the keys {', '.join(_STATE)}; found {list(state_dict)}")
        initial_sigma, decay, every, kernel_size, steps = (state_dict[name] for name in _STATE)
        _check(initial_sigma, decay, every, kernel_size)
        if not _is_integer(steps) or steps < 0:
            raise ValueError(f"steps={steps!r} must be an integer >= 0")
        self._check_unowned()
        for name in _STATE:
            setattr(self, name, state_dict[name])
        self._update()

    def _update(self) -> None:
        """Bring the hooks to where the schedule is."""
        end = self.retires_at
        wanted = bool(self._hooks) and not self._removed and (end is None or self.steps < end)
        sigma = self.sigma
        on = {dtype: wanted and not is_identity(sigma, self.kernel_size, dtype) for dtype in DTYPES}
        attaching = wanted and not self._attached
        try:
            if attaching:
                self._attach()
            self._smoothing.set(sigma, self.kernel_size, on)
            if not wanted:
                self._detach()
        except BaseException:  # all hooks or none, also where Ctrl-C comes in between
            if attaching:
                self._detach()
            raise

    def _attach(self) -> None:
        _forget_compiled_code()
        self._attached = True  # from here on there may be hooks to detach
        for _, module, hook in self._hooks:
            _detach_ownerless(module)
            hook.attach(module)

    def _detach(self) -> None:
        if self._attached:
            for _, module, hook in self._hooks:
                hook.detach(module)
            self._attached = False

    def _check_unowned(self) -> None:
        for name, module, _ in self._hooks:
            for hook in _smoothing_hooks(module):
                if _owner(hook, module) not in (None, self):
                    raise ValueError(
                        f"{name!r} is smoothed by another CBS already: call its remove() first, or select other "
                        "modules with where"
                    )

    def _smooths(self, module: nn.Module) -> bool:
        return self._attached and any(module is other for _, other, _ in self._hooks)

    def __deepcopy__(self, memo: dict[int, Any]) -> CBS:
        return self  # as the copy of a model shares its schedule

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._smoothing.owner = weakref.ref(self)

    def __repr__(self) -> str:
        if self.active:
            end = "never retires" if self.retires_at is None else f"retires at {self.retires_at}"
        else:
            end = "removed" if self._removed else "retired" if self._hooks else "nothing to smooth"
        return (
            f"CBS(sigma={self.sigma:.4g}, decay={self.decay:g}, every={self.every}, kernel_size={self.kernel_size}, "
            f"{len(self._hooks)} sites, step {self.steps}, {end})"
        )


_LARGEST_KERNEL = 2**63 - 1
_STATE = ("initial_sigma", "decay", "every", "kernel_size", "steps")


def _check(sigma: float, decay: float, every: int, kernel_size: int) -> None:
    for name, value in (("sigma", sigma), ("decay", decay)):
        if not _is_real(value):
            raise TypeError(f"{name} must be a number, not {value!r}")
    if not 0 <= sigma < math.inf:  # NaN fails the comparison too
        raise ValueError(f"sigma={sigma!r} must be 0 or more, and finite")
    if not 0 < decay <= 1:
        raise ValueError(f"decay={decay!r} must be above 0 and at most 1")
    if not _is_integer(every) or every < 1:
        raise ValueError(f"every={every!r} must be an integer >= 1, in steps")
    if not _is_integer(kernel_size) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size!r} must be an odd integer >= 1")
    if kernel_size > _LARGEST_KERNEL:
        raise ValueError(f"kernel_size={kernel_size!r} must be at most {_LARGEST_KERNEL}, the largest int64")


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finest_dtype(sites: Iterable[Site]) -> torch.dtype:
    """Of the parameters of the sites; a site without any that can be smoothed counts as float32."""
    found = set()
    for site in sites:
        found |= {parameter.dtype for parameter in site.module.parameters()} & set(DTYPES) or {torch.float32}
    return next((dtype for dtype in DTYPES if dtype in found), torch.float32)


def _smoothing_hooks(module: nn.Module) -> list[SmoothingHook]:
    hooks: Iterable[object] = module._forward_hooks.values()
    return [hook for hook in hooks if isinstance(hook, SmoothingHook)]


def _owner(hook: SmoothingHook, module: nn.Module) -> CBS | None:
    """The living CBS that has put `hook` on this very module, not on one that it was copied from."""
    owner = hook.smoothing.owner()
    return owner if isinstance(owner, CBS) and owner._smooths(module) else None


def _detach_ownerless(module: nn.Module) -> None:
    for hook in _smoothing_hooks(module):
        if _owner(hook, module) is None:
            hook.detach(module)


def _forget_compiled_code() -> None:
    """Dynamo does not guard on hooks that are not there, so what it has compiled would go on without them."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is not None and dynamo.counters["stats"]:  # it has compiled something
        torch.compiler.reset()
