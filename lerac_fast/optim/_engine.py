"""The step that all optimizers share: one call into the compiled engine."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from lerac_fast import _gpu_backend as _gpu_backend  # the step on GPUs
from lerac_fast._extension import extension

if TYPE_CHECKING:
    from lerac_fast._C import Optimizer as OptimizerKind
    from lerac_fast._C import Step

    Parent = torch.optim.Optimizer
else:
    Parent = object


_NAMED_PLACES = 3  # of each reason, in the warning of what the kernels do not serve


class FusedStep(Parent):
    """Replaces the step of the ``torch.optim`` class that stands behind it in the class's bases.

    One native call updates every parameter of every group. Constructor, state and checkpoints remain the parent's.
    """

    _kind: ClassVar["OptimizerKind"]
    _step_supports_amp_scaling = True
    grad_scale: Tensor | None
    found_inf: Tensor | None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a param group, as ``torch.optim.Optimizer.add_param_group`` does.

        Raises:
            ValueError: an option contradicts what this optimizer is, a rate is negative or NaN, or a parameter is
                already in a group. Nothing has changed then.
        """
        if isinstance(param_group, dict):  # torch refuses all else
            _check_implementation(type(self).__name__, self.defaults)
            extension.check_param_group(self._kind, self.defaults | param_group, len(self.param_groups))
            params = param_group["params"]
            if not isinstance(params, Tensor | set):  # torch wraps the one and refuses the other
                params = param_group["params"] = list(params)
                _check_distinct(params)
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError, TypeError, KeyError: a hyperparameter, gradient or state is not valid. The message names it, and
                no parameter, state or step count has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    @_disable_dynamo  # a compiled step calls this as it is, in place of tracing it down to the native call
    def _update(self) -> None:
        # Set by torch.amp.GradScaler around the step; without any gradient, found_inf is the number 0.
        found_inf: Tensor | int | None = getattr(self, "found_inf", None)
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        try:
            self._native_step(self.param_groups, self.state, grad_scale, found_inf, self._step_unserved)
        except BaseException:
            # The scaler will not come to take them off again, and the next step must not be divided by them.
            self.__dict__.pop("grad_scale", None)
            self.__dict__.pop("found_inf", None)
            raise

    @property
    def _native_step(self) -> "Step":
        # Made at first use: pickles and copies of an optimizer carry its groups and state only.
        step: Step | None = self.__dict__.get("_native_step_")
        if step is None:
            step = self.__dict__["_native_step_"] = extension.Step(self._kind)
        return step

    def _step_unserved(self, unserved: list[tuple[int, int, str]]) -> None:
        """Steps the parameters at these (group, index) places with the parent's code."""
        self._warn_once(unserved)
        groups = self.param_groups
        members: dict[int, list[Tensor]] = {}
        for group, index, _ in unserved:
            members.setdefault(group, []).append(groups[group]["params"][index])
        parent_step = super().step
        while getattr(parent_step, "hooked", False):  # our own step has run the hooks already
            parent_step = parent_step.__wrapped__.__get__(self)  # type: ignore[attr-defined]
        with self._unscaled([param for params in members.values() for param in params]):
            try:
                # The parent's own choice of implementation: "fused" and "foreach" do not take every tensor.
                self.param_groups = [
                    groups[group] | {"params": params} | {k: None for k in ("fused", "foreach") if k in groups[group]}
                    for group, params in members.items()
                ]
                parent_step()
            finally:
                self.param_groups = groups

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
        named: set[tuple[int, int, str]] = self.__dict__.setdefault("_named_unserved", set())
        new = [place for place in unserved if place not in named]
        if not new:
            return
        named.update(new)
        places: dict[str, list[str]] = {}
        for group, index, reason in new:
            places.setdefault(reason, []).append(f"param group {group}, parameter {index}")
        text = "; ".join(f"{_shorten(some)}: {reason}" for reason, some in places.items())
        warnings.warn(
            f"lerac_fast.optim.{type(self).__name__} leaves to torch.optim's own step what its kernels do not "
            f"serve: {text}",
            stacklevel=8,  # past this module, torch.compiler.disable and torch's hooks: where step() was called
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state, of this class or of the ``torch.optim`` class of the same name.

        The parent casts every state tensor to its parameter's dtype; float32 states of 16-bit parameters stay float32
        here.
        """
        loaded: dict[str, Any] = {}
        # The last of the hooks before and the first of the hooks after, so that users' hooks are heeded.
        hooks = [
            self.register_load_state_dict_pre_hook(lambda _, final: loaded.update(final)),
            self.register_load_state_dict_post_hook(lambda _: self._restore_float32_states(loaded), prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _restore_float32_states(self, loaded: dict[str, Any]) -> None:
        for saved_group, group in zip(loaded["param_groups"], self.param_groups, strict=True):
            for identifier, param in zip(saved_group["params"], group["params"], strict=True):
                if param.dtype not in (torch.bfloat16, torch.float16):
                    continue
                for key, value in loaded["state"].get(identifier, {}).items():
                    if isinstance(value, Tensor) and value.dtype == torch.float32 and key != "step":
                        self.state[param][key] = value.to(param.device)


def _check_implementation(name: str, defaults: dict[str, Any]) -> None:
    if defaults.get("foreach"):
        raise ValueError(f"foreach=True contradicts lerac_fast.optim.{name}, which is fused. Leave foreach out")
    if defaults.get("fused") is False:
        raise ValueError(f"fused=False contradicts lerac_fast.optim.{name}, which is fused. Leave fused out")


def _shorten(places: list[str]) -> str:
    more = len(places) - _NAMED_PLACES
    return ", ".join(places[:_NAMED_PLACES]) + (f" and {more} more" if more > 0 else "")


def _check_distinct(params: Iterable[Any]) -> None:
    seen: set[int] = set()
    for item in params:
        param = item[1] if isinstance(item, tuple) else item
        if isinstance(param, Tensor):  # torch refuses all else
            if id(param) in seen:
                raise ValueError(f"a parameter of shape {tuple(param.shape)} appears more than once in the param group")
            seen.add(id(param))
