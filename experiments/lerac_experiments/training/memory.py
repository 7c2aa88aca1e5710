"""How much memory the trainings of the presets take, counted without doing them.

python -m lerac_experiments.training.memory  # the table in docs/experiments.md
"""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from lerac_experiments.data import crema_d, esc50, spoken_digits
from lerac_experiments.data.examples import TensorExamples
from lerac_experiments.data.source import Parts
from lerac_experiments.data.spectrograms import MEL_BINS
from lerac_experiments.models import MODELS
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.presets import PRESETS
from lerac_experiments.training.tasks import TASKS

SHAPES = {
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "cifar10-subset": (3, 32, 32),
    "fashion-mnist": (1, 28, 28),
    "tiny-imagenet": (3, 64, 64),
    "imagenet": (3, 224, 224),
    "imagenet200": (3, 224, 224),
    "webvision": (3, 224, 224),
    "food101": (3, 224, 224),
    "utkface": (3, 64, 64),
    "crema-d": (1, MEL_BINS, 1 + crema_d.SAMPLES // crema_d.HOP),
    "esc50": (1, MEL_BINS, 1 + esc50.SAMPLES // esc50.HOP),
    "spoken-digits": (1, MEL_BINS, 1 + spoken_digits.SAMPLES // spoken_digits.HOP),
}
"""Of an image or a spectrogram. Texts are as long as the model reads them; detectors are left out."""

CLASSES = 100  # Of images and sounds; what a head has of its own hardly shows.
VOCABULARY = 30_522  # Of BERT's pieces; for models that read words, too.

NEEDS_VALUES = ("lstm", "lstm-small")
"""Models that ask for the lengths of texts, which a tensor without memory cannot tell."""


@dataclass(frozen=True)
class Memory:
    """Of a training in float32."""

    parameters: int
    """How many."""
    state: int
    """Bytes of parameters, their gradients and the optimizer's state."""
    activations: int
    """Bytes that a step keeps for its backward pass."""


def memory(spec: ModelSpec, shape: tuple[int, ...] | None, batch_size: int) -> Memory:
    """Of a model on examples of a shape; None, on texts.

    What is kept for the backward pass is counted by the hooks that autograd calls for it, once for each piece of
    memory, with tensors that have sizes and no memory ("fake", on the CPU). It is counted for two and for four
    examples, and grows in proportion.
    """
    without_memory = spec.name not in NEEDS_VALUES
    with torch.device("meta") if without_memory else nullcontext():
        model = spec.make(_parts(spec, shape, 2), None).train()
    with FakeTensorMode() if without_memory else nullcontext():
        if without_memory:
            _make_fake(model)
        few, more = (_kept(model, _parts(spec, shape, count)) for count in (2, 4))
        state = 2 * _bytes(model.parameters()) + _optimizer_bytes(spec, model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Memory(parameters, state, few + (more - few) * (batch_size - 2) // 2)


def _make_fake(model: nn.Module) -> None:
    """Has parameters and buffers on the meta device be fake ones on the CPU: so torch chooses the kernels of the CPU,
    such as attention that keeps no table of all pairs."""
    for module in model.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
            setattr(module, name, nn.Parameter(fake) if isinstance(tensor, nn.Parameter) else fake)


def _parts(spec: ModelSpec, shape: tuple[int, ...] | None, count: int) -> Parts:
    inputs: Tensor | dict[str, Tensor]
    if shape is not None:
        inputs = torch.zeros(count, *shape)
    else:
        assert spec.encoding is not None
        ones = torch.ones(count, spec.encoding.max_length, dtype=torch.int64)
        inputs = {"input_ids": ones, "attention_mask": ones.clone(), "token_type_ids": torch.zeros_like(ones)}
    examples = TensorExamples(inputs, torch.zeros(count, dtype=torch.int64))
    classes = 2 if shape is None else CLASSES
    return Parts("classification", classes, examples, examples, examples, "sizes", vocabulary=VOCABULARY)


def _kept(model: nn.Module, parts: Parts) -> int:
    """Bytes that a forward pass keeps, beside parameters and buffers."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # alive, so that no other takes its place

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    examples = parts.train
    batch = examples.__getitems__(list(range(len(examples))))
    task = TASKS[parts.task]
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        task.loss(task.forward(model, batch), batch)
    return sum(storage.nbytes() for storage in kept.values())


def _optimizer_bytes(spec: ModelSpec, model: nn.Module) -> int:
    """Of torch's optimizer of that name: ours have the same state."""
    settings = spec.settings
    options = {"momentum": settings.momentum} if settings.optimizer == "SGD" else {}
    optimizer = getattr(torch.optim, settings.optimizer)(model.parameters(), lr=settings.lr, **options)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return sum(_bytes(state.values()) for state in optimizer.state.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))


def main() -> None:
    """Prints the table."""
    cases: dict[tuple[str, tuple[int, ...] | None, int], dict[str, list[str]]] = {}
    for preset, trials in PRESETS.items():
        for trial in trials():
            if "detection" in MODELS[trial.model].kinds:
                continue  # whose losses take annotated images
            where = cases.setdefault((trial.model, SHAPES.get(trial.data), trial.settings.batch_size), {})
            if trial.data not in where.setdefault(preset, []):
                where[preset].append(trial.data)
    print("| preset | model | data | batch | parameters | state | activations | together |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, shape, batch_size), where in cases.items():
        size = memory(MODELS[name], shape, batch_size)
        presets = ", ".join(f"`{preset}`" for preset in where)
        data = ", ".join(dict.fromkeys(name for names in where.values() for name in names))
        print(
            f"| {presets} | `{name}` | {data} | {batch_size} | {size.parameters / 1e6:.1f} M | {_shown(size.state)} | "
            f"{_shown(size.activations)} | {_shown(size.state + size.activations)} |"
        )


def _shown(count: int) -> str:
    """Of 10^6 or 10^9 bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
