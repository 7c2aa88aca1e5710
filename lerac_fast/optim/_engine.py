"""The step that all optimizers share: one call into the compiled engine."""

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from lerac_fast._extension import extension

if TYPE_CHECKING:
    from lerac_fast._C import Optimizer as OptimizerKind
    from lerac_fast._C import Step

    Parent = torch.optim.Optimizer
else:
    Parent = object


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
        options = self.defaults | param_group
        _check_options(type(self).__name__, options)
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
        # Set by torch.amp.GradScaler around the step.
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        if found_inf is not None and found_inf.item():
            return
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        inverse_scale = 1.0 if grad_scale is None else 1.0 / grad_scale.item()
        self._native_step(self.param_groups, self.state, inverse_scale, self._step_unserved)

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
        # What a GradScaler asks of an optimizer that cannot divide its scale out by itself.
        grad_scale: Tensor | None = self.__dict__.pop("grad_scale", None)
        found_inf: Tensor | None = self.__dict__.pop("found_inf", None)
        groups = self.param_groups
        members: dict[int, list[Tensor]] = {}
        for group, index, _ in unserved:
            members.setdefault(group, []).append(groups[group]["params"][index])
        if grad_scale is not None:
            for param in (p for params in members.values() for p in params):
                param.grad = None if param.grad is None else param.grad / grad_scale.to(param.grad.device)
        parent_step = super().step
        while getattr(parent_step, "hooked", False):  # our own step has run the hooks already
            parent_step = parent_step.__wrapped__.__get__(self)  # type: ignore[attr-defined]
        try:
            # The parent's own choice of implementation: "fused" and "foreach" do not take every tensor.
            self.param_groups = [
                groups[group] | {"params": params} | {k: None for k in ("fused", "foreach") if k in groups[group]}
                for group, params in members.items()
            ]
            parent_step()
        finally:
            self.param_groups = groups
            if found_inf is not None:
                self.grad_scale, self.found_inf = grad_scale, found_inf

    def _warn_once(self, unserved: list[tuple[int, int, str]]) -> None:
        named: set[tuple[int, int, str]] = self.__dict__.setdefault("_named_unserved", set())
        new = [place for place in unserved if place not in named]
        if not new:
            return
        named.update(new)
        places = "; ".join(f"param group {group}, parameter {index}: {reason}" for group, index, reason in new)
        warnings.warn(
            f"lerac_fast.optim.{type(self).__name__} leaves to torch.optim's own step what its kernels do not "
            f"serve: {places}",
            stacklevel=8,  # past this module, torch.compile.disable and torch's hooks: where step() was called
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state, of this class or of the ``torch.optim`` class of the same name.

        The parent casts every state tensor to its parameter's dtype; float32 states of 16-bit parameters stay float32
        here.
        """
        super().load_state_dict(state_dict)
        saved_groups = state_dict["param_groups"]
        for saved_group, group in zip(saved_groups, self.param_groups, strict=True):
            for identifier, param in zip(saved_group["params"], group["params"], strict=True):
                if param.dtype not in (torch.bfloat16, torch.float16):
                    continue
                for key, value in state_dict["state"].get(identifier, {}).items():
                    if isinstance(value, Tensor) and value.dtype == torch.float32 and key != "step":
                        self.state[param][key] = value.to(param.device)


def _check_options(name: str, options: dict[str, Any]) -> None:
    if options.get("differentiable"):
        raise ValueError(
            f"differentiable=True is not supported by lerac_fast.optim.{name}: its fused step writes the parameters "
            "without autograd. Use torch.optim for it"
        )
    if options.get("foreach"):
        raise ValueError(f"foreach=True contradicts lerac_fast.optim.{name}, which is fused. Leave foreach out")
    if options.get("fused") is False:
        raise ValueError(f"fused=False contradicts lerac_fast.optim.{name}, which is fused. Leave fused out")
    for key in ("lr", "weight_decay", "eps", "momentum"):
        value = options.get(key, 0.0)
        if not value >= 0.0:  # NaN fails, too
            where = f" (param group '{options['name']}')" if "name" in options else ""
            raise ValueError(f"{key} must be at least 0, got {value}{where}")


def _check_distinct(params: Iterable[Tensor | tuple[str, Tensor]]) -> None:
    seen: set[int] = set()
    for item in params:
        param = item[1] if isinstance(item, tuple) else item
        if id(param) in seen:
            raise ValueError(f"a parameter of shape {tuple(param.shape)} appears more than once in the param group")
        seen.add(id(param))
