"""The forward hooks of curriculum by smoothing: for the maps of convolutions, and for tokens."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.hooks import RemovableHandle

from lerac_fast.ops.gaussian_smooth import extension as extension  # registers the ops that the hooks call

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""What can be smoothed, the finest first."""

CONVOLUTIONS: dict[type[nn.Module], int] = {
    nn.Conv1d: 1,
    nn.Conv2d: 2,
    nn.Conv3d: 3,
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}


@dataclass(frozen=True)
class Tokens:
    """How the output of a module that is not a convolution is smoothed: a sequence or a grid of tokens.

    The output is `[B, T, C]` or `[T, B, C]`, or `[T, C]` with `axis` 0. It may come first in a tuple or list
    (nn.LSTM), as a PackedSequence, or as the `last_hidden_state` of a mapping (transformers); the rest of such an
    output is not touched. Padded tokens keep their values and count as zero to their neighbours, like what lies beyond
    the ends; so do class tokens. The ends of packed and nested sequences are known without `padding`.

    Args:
        axis: that of the tokens: 1 for `[B, T, C]`, 0 for `[T, B, C]`.
        class_tokens: how many tokens at the front are left alone.
        grid: (height, width) of the grid in which the other tokens lie, row by row. Smoothing is then 2-D.
        padding: where the padding mask is found: the name of an argument of the module's `forward`, such as
            `"src_key_padding_mask"` of nn.TransformerEncoderLayer, or a function of its `(args, kwargs)` (of a
            module level, if the model is to be pickled). The mask is bool `[B, T]`, True at padding as everywhere in
            torch, or float, negative at padding; or one of attention, `[B, heads or 1, queries or 1, T]`, such as
            `"attention_mask"` of the layers of transformers: bool, True where attended, as
            scaled_dot_product_attention has it, or float, added to the scores, negative elsewhere. Padding is then what
            no query attends to. None: no padding.

    Raises ValueError or TypeError for arguments that make no sense.
    """

    axis: int = 1
    class_tokens: int = 0
    grid: tuple[int, int] | None = None
    padding: str | Callable[[tuple[Any, ...], dict[str, Any]], Tensor | None] | None = None

    def __post_init__(self) -> None:
        if self.axis not in (0, 1):
            raise ValueError(f"Tokens: axis={self.axis!r} must be 1, for [B, T, C], or 0, for [T, B, C]")
        if not isinstance(self.class_tokens, int) or self.class_tokens < 0:
            raise ValueError(f"Tokens: class_tokens={self.class_tokens!r} must be an integer >= 0")
        if self.grid is not None:
            valid = isinstance(self.grid, tuple) and len(self.grid) == 2
            if not valid or not all(isinstance(side, int) and side > 0 for side in self.grid):
                raise ValueError(f"Tokens: grid={self.grid!r} must be (height, width), in tokens")
        if not (self.padding is None or isinstance(self.padding, str) or callable(self.padding)):
            raise TypeError(f"Tokens: padding must be a name, a function or None, not {self.padding!r}")


class Site(NamedTuple):
    """A module whose output is smoothed."""

    name: str
    """Its name in the unwrapped model."""
    module: nn.Module
    axes: tuple[int, ...] | Tokens


class Smoothing:
    """What all hooks of one CBS share, deep copies of the model included."""

    def __init__(self, sigma: float, kernel_size: int) -> None:
        with torch.inference_mode(False):  # autograd could not save it otherwise
            self._sigma = torch.tensor(sigma, dtype=torch.float64, device="cpu")
        self._number = sigma
        self.kernel_size = kernel_size
        # By dtype, as a map in bfloat16 is done with smoothing long before one in float32. Compiled code guards on the
        # one entry that it has read.
        self.on = dict.fromkeys(DTYPES, False)
        self.owner: Callable[[], object | None] = _nobody

    @property
    def sigma(self) -> Tensor:
        """The width. Programs that are exported or traced get a constant, and do not follow the schedule."""
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return torch.scalar_tensor(self._number, dtype=torch.float64, device="cpu")
        return self._sigma

    def set(self, sigma: float, kernel_size: int, on: Mapping[torch.dtype, bool]) -> None:
        if self._number != sigma:  # a write in vain would invalidate graphs that wait for their backward pass
            self._sigma.fill_(sigma)  # in place: compiled code holds on to the tensor
        self._number = sigma
        self.kernel_size = kernel_size
        self.on.update(on)

    def __deepcopy__(self, memo: dict[int, Any]) -> Smoothing:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "owner": _nobody}  # the owner restores itself


def _nobody() -> None:
    return None


class SmoothingHook:
    """A forward hook that smooths the output of its site."""

    with_kwargs = False

    def __init__(self, site: Site, smoothing: Smoothing) -> None:
        self.name = site.name
        self.smoothing = smoothing
        self.key = -1

    def attach(self, module: nn.Module) -> None:
        """Before all other hooks, so that they see what the rest of the model sees."""
        handle = module.register_forward_hook(self, prepend=True, with_kwargs=self.with_kwargs)  # type: ignore[arg-type]
        self.key = handle.id

    def detach(self, module: nn.Module) -> None:
        hooks: Mapping[int, object] = module._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is self]:
            del module._forward_hooks[key]
            module._forward_hooks_with_kwargs.pop(key, None)

    @property
    def __name__(self) -> str:
        """Asked for by torch.jit.script, whose compiler knows no hooks that are objects."""
        raise AttributeError(
            f"CBS: torch.jit.script cannot compile the smoothing of {self.name!r}: script the model when smoothing has "
            "retired or after remove(), or take torch.export or torch.jit.trace"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A process that loads a model hands out keys that the model's hooks have already, and would replace them.
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.key + 1)


def hook_for(site: Site, smoothing: Smoothing) -> SmoothingHook:
    return SmoothTokens(site, smoothing) if isinstance(site.axes, Tokens) else SmoothMap(site, smoothing)


def _unattended(mask: Tensor) -> Tensor:
    """The tokens that no query of any head attends to, bool `[B, T]`, from a mask of attention `[B, H, Q, T]`.

    A bool one is True where attended, the reverse of masks of padding.
    """
    return (~mask if mask.dtype is torch.bool else mask < 0).flatten(1, 2).all(1)


def _forward_of(kind: type[nn.Module]) -> tuple[object, object]:
    return kind.forward, getattr(kind, "_conv_forward", None)


_FORWARDS = [_forward_of(kind) for kind in CONVOLUTIONS]


class SmoothMap(SmoothingHook):
    """For convolutions: in place where their output is theirs alone, as their backward pass does not need it."""

    def __init__(self, site: Site, smoothing: Smoothing) -> None:
        super().__init__(site, smoothing)
        self.axes = list(site.axes)  # type: ignore[arg-type]
        self.plain = _forward_of(type(site.module)) in _FORWARDS
        # What may be the module's bias; None, anything. See _refuse_folded_norm().
        self.biases: list[nn.Parameter] | None = [] if site.module._parameters.get("bias") is None else None

    def __deepcopy__(self, memo: dict[int, Any]) -> SmoothMap:
        alone = sum(isinstance(thing, nn.Module) for thing in memo.values()) == 1  # the copy is of this module alone
        copied = copy.copy(self)
        if self.biases:
            copied.biases = copy.deepcopy(self.biases, memo)
        elif self.biases is None and alone:
            copied.biases = [thing for thing in memo.values() if isinstance(thing, nn.Parameter) and thing.ndim == 1]
        return copied

    def __call__(self, module: nn.Module, _: tuple[Any, ...], output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise TypeError(f"CBS: {self.name!r} returns a {type(output).__name__}: say with Tokens how to smooth it")
        smoothing = self.smoothing
        if not smoothing.on.get(output.dtype, True):
            return None
        self._refuse_folded_norm(module)
        if torch.compiler.is_compiling() or not self._may_overwrite(module, output):
            smoothed: Tensor = torch.ops.lerac_fast.gaussian_smooth(
                output, smoothing.sigma, smoothing.kernel_size, self.axes
            )
            return smoothed
        torch.ops.lerac_fast.gaussian_smooth_(output, smoothing.sigma, smoothing.kernel_size, self.axes)
        return None

    def _refuse_folded_norm(self, module: nn.Module) -> None:
        """torch.nn.utils.fuse_conv_bn_eval copies a convolution with its hooks and gives it another bias; smoothing,
        which belongs before the norm, would come after it."""
        bias = module._parameters.get("bias")
        if self.biases is None or bias is None or not isinstance(bias, nn.Parameter):
            return
        if not any(bias is known for known in self.biases):
            raise RuntimeError(
                f"CBS: {self.name!r} has got another bias, as by folding its norm into it, but the norm must see what "
                "is smoothed. Fold norms when smoothing has retired or after remove()"
            )

    def _may_overwrite(self, module: nn.Module, output: Tensor) -> bool:
        if not output.is_cpu:  # a GPU's kernels need another tensor to write to; this one's memory is free right after
            return False
        # An earlier hook may hold on to the output, and so may a forward of somebody else's, which may also go on to an
        # activation, whose backward pass needs it, or return its input.
        if _global_forward_hooks or next(iter(module._forward_hooks.values())) is not self:
            return False
        if not self.plain or "forward" in module.__dict__:
            return False
        return output.grad_fn is None or output.grad_fn.name() == "ConvolutionBackward0"


class SmoothTokens(SmoothingHook):
    """For sequences and grids of tokens, out of place."""

    with_kwargs = True

    def __init__(self, site: Site, smoothing: Smoothing) -> None:
        super().__init__(site, smoothing)
        assert isinstance(site.axes, Tokens)
        self.tokens = site.axes
        self.padding_position = self._find_padding(site.module)

    def _find_padding(self, module: nn.Module) -> int | None:
        """The position of the padding mask among the arguments of `forward`; None if it comes by keyword alone."""
        name = self.tokens.padding
        if not isinstance(name, str):
            return None
        parameters = inspect.signature(module.forward).parameters
        if name in parameters:
            in_order = [other for other, parameter in parameters.items() if parameter.kind < parameter.VAR_POSITIONAL]
            return in_order.index(name) if name in in_order else None
        if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
            return None
        raise ValueError(f"{self._where()}: forward has no argument {name!r}, which Tokens names as its padding")

    def _where(self) -> str:
        return f"CBS, tokens of {self.name!r}"

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if isinstance(output, PackedSequence):
            return self._smooth_packed(output)
        if isinstance(output, Tensor):
            if output.is_nested:
                return self._smooth_nested(output)
            return self._smooth(output, self.tokens, args, kwargs)
        if isinstance(output, tuple | list) and output:
            items = [self(module, args, kwargs, output[0]), *output[1:]]
            return output._make(items) if hasattr(output, "_make") else type(output)(items)
        if isinstance(output, Mapping) and isinstance(output.get("last_hidden_state"), Tensor):
            output = copy.copy(output)
            output["last_hidden_state"] = self(module, args, kwargs, output["last_hidden_state"])
            return output
        raise TypeError(f"{self._where()}: it returns a {type(output).__name__}, in which no tokens are found")

    def _smooth(
        self, x: Tensor, tokens: Tokens, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Tensor:
        smoothing, axis = self.smoothing, tokens.axis
        if not smoothing.on.get(x.dtype, True):
            return x
        self._check_shape(x, tokens)
        padding = self._padding(x, tokens, args, kwargs or {})
        front, body = x.tensor_split([tokens.class_tokens], axis)
        visible = body if padding is None else body.masked_fill(padding, 0)
        axes = [axis]
        if tokens.grid is not None:
            visible = visible.unflatten(axis, tokens.grid)
            axes = [axis, axis + 1]
        smoothed: Tensor = torch.ops.lerac_fast.gaussian_smooth(visible, smoothing.sigma, smoothing.kernel_size, axes)
        if tokens.grid is not None:
            smoothed = smoothed.flatten(axis, axis + 1)
        if padding is not None:
            smoothed = torch.where(padding, body, smoothed)
        return torch.cat([front, smoothed], axis) if tokens.class_tokens else smoothed

    def _check_shape(self, x: Tensor, tokens: Tokens) -> None:
        shape = tuple(x.shape)
        if len(shape) < tokens.axis + 2:
            raise ValueError(
                f"{self._where()}: the shape {shape} has no channels after the tokens on axis {tokens.axis}"
            )
        count = shape[tokens.axis] - tokens.class_tokens
        if count < 0:
            raise ValueError(f"{self._where()}: the shape {shape} has fewer than {tokens.class_tokens} class tokens")
        if tokens.grid is not None and count != tokens.grid[0] * tokens.grid[1]:
            raise ValueError(f"{self._where()}: {count} tokens do not fill the grid {tokens.grid}")

    def _padding(self, x: Tensor, tokens: Tokens, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
        """True at padding, in a shape that broadcasts against the tokens behind the class tokens; None without any."""
        mask = self._given_padding(args, kwargs) if tokens.padding is not None else None
        if mask is None:
            return None
        if not (isinstance(mask, Tensor) and (mask.dtype is torch.bool or mask.is_floating_point())):
            kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(
                f"{self._where()}: the padding mask must be a bool tensor, True at padding, or a float tensor, "
                f"negative at padding, not {kind}. Convert it in a function: padding=lambda args, kwargs: ..."
            )
        batch, count = x.shape[1 - tokens.axis], x.shape[tokens.axis]
        if mask.ndim == 4:
            mask = _unattended(mask).expand(batch if len(mask) == 1 else -1, -1)
        if x.ndim != 3 or tuple(mask.shape) != (batch, count):
            raise ValueError(
                f"{self._where()}: a {mask.dtype} padding mask of shape {tuple(mask.shape)} does not say for each of "
                f"[B, T] = {[batch, count]} tokens whether it is padding. Convert it in a function: "
                "padding=lambda args, kwargs: ..."
            )
        padding = mask if mask.dtype is torch.bool else mask < 0
        padding = padding[:, tokens.class_tokens :]
        return (padding if tokens.axis == 1 else padding.T).unsqueeze(-1)

    def _given_padding(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        source, position = self.tokens.padding, self.padding_position
        if not isinstance(source, str):
            assert source is not None
            return source(args, dict(kwargs))
        if source in kwargs:
            return kwargs[source]
        return args[position] if position is not None and position < len(args) else None

    def _smooth_packed(self, packed: PackedSequence) -> PackedSequence:
        # In their sorted order, so that packing again gives the same one. Behind their ends lie zeros.
        in_order = PackedSequence(packed.data, packed.batch_sizes)
        padded, lengths = pad_packed_sequence(in_order)
        smoothed = self._smooth(padded, replace(self.tokens, axis=0, padding=None))
        data = pack_padded_sequence(smoothed, lengths).data
        return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)

    def _smooth_nested(self, nested: Tensor) -> Tensor:
        # nn.TransformerEncoder makes them of padded batches in evaluation. Again, zeros lie behind the ends.
        lengths = [sequence.size(0) for sequence in nested.unbind()]
        smoothed = self._smooth(nested.to_padded_tensor(0.0), replace(self.tokens, axis=1, padding=None))
        return torch.nested.as_nested_tensor(
            [sequence[:length] for sequence, length in zip(smoothed, lengths, strict=True)]
        )
