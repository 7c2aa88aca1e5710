"""The step that all optimizers share: one call into the compiled engine."""

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.compiler import is_dynamo_compiling
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from lerac_fast._native.extension import extension
from lerac_fast.optim._checkpoint import check_names, keep_identity, policies_alone, restore_float32_states
from lerac_fast.optim._groups import GroupedParams
from lerac_fast.optim._sharding import check_sharding, shard_full_states

if TYPE_CHECKING:
    from lerac_fast._C import Optimizer as OptimizerKind
    from lerac_fast._C import Step

    Parent = torch.optim.Optimizer
else:
    Parent = object


_NAMED_PLACES = 3  # of each reason, in the warning of what the kernels do not serve
_INTERNAL = (os.path.dirname(torch.__file__) + os.sep, __file__)  # code that no warning is to name


class FusedStep(Parent):
    """Replaces the step of the class that stands behind it in the bases, of `torch.optim` where that has one.

    One native call updates every parameter of every group. Constructor, state and checkpoints remain the parent's.
    Where something is to see every operation of a step, such as a mode or a tracer, the parent's step runs.
    """

    _kind: ClassVar["OptimizerKind"]
    _plain_step: ClassVar[str] = "torch.optim's own step"  # the parent's, in words
    grad_scale: Tensor | None
    found_inf: Tensor | None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a param group, as `torch.optim.Optimizer.add_param_group` does.

        Groups with names of their parameters (`param_names`, pairs of a name and a parameter) and groups without may
        be together, which torch refuses.

        Raises:
            ValueError: an option contradicts what this optimizer is, a rate is negative or NaN, or a parameter is
                already in a group. Nothing has changed then.
        """
        if not isinstance(param_group, dict) or isinstance(param_group["params"], set):
            super().add_param_group(param_group)  # which refuses both
            return
        _check_implementation(type(self).__name__, self.defaults)
        extension.check_param_group(self._kind, self.defaults | param_group, len(self.param_groups))
        params = param_group["params"]
        params = param_group["params"] = [params] if isinstance(params, Tensor) else list(params)
        tensors = [item[1] if isinstance(item, tuple) else item for item in params]
        _check_distinct(tensors)
        self._add_distinct(param_group, tensors)

    def _add_distinct(self, param_group: dict[str, Any], params: list[Any]) -> None:
        """Shows torch none of the groups: it would walk all of them for each that is added, and refuse to have groups
        with names of parameters beside groups without."""
        groups = self.param_groups
        grouped: GroupedParams = self.__dict__.setdefault("_grouped", GroupedParams())
        if held := grouped.held(params, groups):
            shapes = ", ".join(str(tuple(param.shape)) for param in held)
            raise ValueError(f"some parameters appear in more than one parameter group: those of shape {shapes}")
        self.param_groups = []
        try:
            super().add_param_group(param_group)
        finally:
            self.param_groups = groups
        groups.append(param_group)
        grouped.added(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError, TypeError, KeyError: a hyperparameter, gradient or state is not valid. The message names it, and
                no parameter, state or step count has changed.
            AssertionError: `capturable=True` and a parameter on a CPU, as torch has it. Nothing has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    @_disable_dynamo  # a compiled step calls this as it is, in place of tracing it down to the native call
    def _update(self) -> None:
        self.__dict__.pop("_grouped", None)
        # Set by torch.amp.GradScaler around the step; without any gradient, found_inf is the number 0.
        found_inf: Tensor | int | None = getattr(self, "found_inf", None)
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        traced = extension.why_traced()
        if traced is None:
            self._native_step(self.param_groups, self.state, grad_scale, found_inf, self._step_unserved)
        elif not found_inf:
            with torch.no_grad():
                self._step_unserved(_places_with_gradient(self.param_groups, traced))

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """torch's wrapper of a step, which runs hooks around it and gives it a name in profiles.

        It is passed by where there is neither a hook nor a profile: the name takes as long as a hundred parameters.
        """
        wrapped = torch.optim.Optimizer.profile_hook_step(func)

        @functools.wraps(func)
        def step(self: FusedStep, *args: Any, **kwargs: Any) -> Any:
            has_closure = args or kwargs  # which may register hooks
            if has_closure or is_dynamo_compiling() or extension.is_profiled() or _has_step_hooks(self):
                return wrapped(self, *args, **kwargs)
            return func(self, *args, **kwargs)

        return step

    def _patch_step_function(self) -> None:
        """Where torch puts its hooks around the step of the class; the loss scale is cleared around these."""
        super()._patch_step_function()
        cls = type(self)
        if not getattr(cls.step, "clears_scaling", False):
            cls.step = _clearing_scaling(cls.step)  # type: ignore[method-assign]

    @property
    def _native_step(self) -> "Step":
        # Made at first use: pickles and copies of an optimizer carry its groups and state only.
        step: Step | None = self.__dict__.get("_native_step_")
        if step is None:
            step = self.__dict__["_native_step_"] = extension.Step(self._kind)
        return step

    def _step_unserved(self, unserved: list[tuple[int, int, str]]) -> None:
        """Steps the parameters at these (group, index) places with the parent's code."""
        groups = self.param_groups
        members: dict[int, list[Tensor]] = {}
        for group, index, _ in unserved:
            param = groups[group]["params"][index]
            members.setdefault(group, []).append(param)
            check_sharding(f"param group {group}, parameter {index}", param, self.state.get(param, {}))
        self._warn_once(unserved)
        parent_step = super().step
        while getattr(parent_step, "hooked", False):  # our own step has run the hooks already
            parent_step = parent_step.__wrapped__.__get__(self)  # type: ignore[attr-defined]
        with self._unscaled([param for params in members.values() for param in params]):
            try:
                self.param_groups = [
                    groups[group] | {"params": params} | self._parents_options(groups[group], params)
                    for group, params in members.items()
                ]
                parent_step()
            finally:
                self.param_groups = groups

    def _parents_options(self, group: dict[str, Any], params: list[Tensor]) -> dict[str, Any]:
        """`fused` is not for every tensor that the parent's step takes."""
        if not group.get("fused"):
            return {}
        operands = [t for param in params for t in (param, param.grad, *self.state.get(param, {}).values())]
        return {} if all(_is_fused_by_torch(t) for t in operands if isinstance(t, Tensor)) else {"fused": None}

    @contextmanager
    def _unscaled(self, params: list[Tensor]) -> Iterator[None]:
        """Divides the loss scale out of gradients, as a GradScaler does for optimizers that cannot do it themselves."""
        scaling: dict[str, Any] = {
            key: self.__dict__.pop(key) for key in ("grad_scale", "found_inf") if key in self.__dict__
        }
        scale = scaling.get("grad_scale")
        gradients = [param.grad for param in params]
        if scale is not None:
            for param, gradient in zip(params, gradients, strict=True):
                param.grad = None if gradient is None else gradient / scale.to(gradient.device)
        try:
            yield
        except BaseException:
            for param, gradient in zip(params, gradients, strict=True):
                param.grad = gradient
            raise
        finally:
            self.__dict__.update(scaling)

    def _warn_once(self, unserved: list[tuple[int, int, str]]) -> None:
        """Once for each reason."""
        warned: set[str] = self.__dict__.setdefault("_warned_reasons", set())
        places: dict[str, list[str]] = {}
        for group, index, reason in unserved:
            if reason not in warned:
                places.setdefault(reason, []).append(f"param group {group}, parameter {index}")
        if not places:
            return
        text = "; ".join(f"{_shorten(some)}: {reason}" for reason, some in places.items())
        warnings.warn(
            f"lerac_fast.optim.{type(self).__name__} leaves to {self._plain_step} what its kernels do not serve: "
            f"{text}",
            stacklevel=_levels_to_caller(),
        )
        warned.update(places)  # now that it was delivered: made an error, it stops every step and not the first alone

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state, of this class or of the `torch.optim` class of the same name.

        The parent casts every state tensor to its parameter's dtype; float32 states of 16-bit parameters stay float32
        here. States go to parameters by their position, as torch has it. Where both sides have names, of parameters
        (`param_names`) or else of param groups (`name`), these are compared. A group's own `param_names`, `name` and
        `depth` stay. Of a state that is whole in the state dict, a parameter that is a DTensor takes each process's
        part, without sending anything.

        Raises:
            ValueError: a name is another, so that parameters would get the states of others; or sizes differ. Nothing
                has changed then.
        """
        loaded: dict[str, Any] = {}
        groups = self.param_groups

        def before(_: Any, final: dict[str, Any]) -> dict[str, Any]:
            check_names(final["param_groups"], groups)
            final = shard_full_states(final, groups)
            loaded.update(final)
            return final | {"param_groups": policies_alone(final["param_groups"])}

        def after(_: Any) -> None:
            keep_identity(groups, self.param_groups)
            restore_float32_states(loaded, self.param_groups, self.state)

        # The last of the hooks before and the first of the hooks after, so that users' hooks are heeded.
        hooks = [
            self.register_load_state_dict_pre_hook(before),
            self.register_load_state_dict_post_hook(after, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()


def _has_step_hooks(optimizer: FusedStep) -> bool:
    return bool(
        _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
    )


def _check_implementation(name: str, defaults: dict[str, Any]) -> None:
    if defaults.get("foreach"):
        raise ValueError(f"foreach=True contradicts lerac_fast.optim.{name}, which is fused. Leave foreach out")
    if defaults.get("fused") is False:
        raise ValueError(f"fused=False contradicts lerac_fast.optim.{name}, which is fused. Leave fused out")


def _clearing_scaling(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that leaves no loss scale behind when it, its closure or a hook of torch's around it raises.

    The GradScaler will not come to take the scale off again, and the next step must not be divided by it.
    """

    @functools.wraps(step)
    def clearing(self: FusedStep, *args: Any, **kwargs: Any) -> Any:
        try:
            return step(self, *args, **kwargs)
        except BaseException:
            self.__dict__.pop("grad_scale", None)
            self.__dict__.pop("found_inf", None)
            raise

    clearing.clears_scaling = True  # type: ignore[attr-defined]
    return clearing


def _places_with_gradient(groups: list[dict[str, Any]], reason: str) -> list[tuple[int, int, str]]:
    return [
        (i, j, reason)
        for i, group in enumerate(groups)
        for j, param in enumerate(group["params"])
        if param.grad is not None
    ]


def _is_fused_by_torch(tensor: Tensor) -> bool:
    """Whether a fused step of torch's takes this parameter, gradient or state."""
    return (
        tensor.layout == torch.strided
        and tensor.is_floating_point()
        and not tensor.is_neg()
        and tensor.device.type in _get_fused_kernels_supported_devices()
        and type(tensor).__torch_dispatch__
        is Tensor.__torch_dispatch__  # for DTensors, torch has it of some optimizers
    )


def _levels_to_caller() -> int:
    """The `stacklevel` with which this function's caller warns of the line that called torch or this module."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INTERNAL):
        level, frame = level + 1, frame.f_back
    return level


def _shorten(places: list[str]) -> str:
    more = len(places) - _NAMED_PLACES
    return ", ".join(places[:_NAMED_PLACES]) + (f" and {more} more" if more > 0 else "")


def _check_distinct(params: list[Any]) -> None:
    seen: set[int] = set()
    for param in params:
        if isinstance(param, Tensor):  # torch refuses all else
            if id(param) in seen:
                raise ValueError(f"a parameter of shape {tuple(param.shape)} appears more than once in the param group")
            seen.add(id(param))
