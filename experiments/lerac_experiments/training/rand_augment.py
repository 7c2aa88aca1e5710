"""RandAugment (Cubuk et al., 2020) of batches, as those who train by EfficientTrain have it.

Of each image two operations are drawn, each of which is done with a probability of one half. All grow with one
magnitude, from 0 to 10, but those that have no strength. The ranges are those of timm's `rand-m9-inc1`, which the
authors of EfficientTrain train with; the small noise that it adds to magnitudes (`mstd0.5`) is left out, so that images
with the same operation are treated together.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

OPERATIONS_PER_IMAGE = 2
PROBABILITY = 0.5
TOP = 10.0
"""The magnitude at which an operation is strongest."""

ROTATION = 30.0  # degrees
SHEAR = 0.3
TRANSLATION = 0.45  # of a side
ENHANCEMENT = 0.9  # of a factor, to either side of 1
ADDED = 110  # shades, by solarize-add
BITS = 4  # that posterize leaves at first
FILL = 128.0
"""The shade of what comes in from beyond an image."""


def rand_augment(images: Tensor, magnitude: float) -> Tensor:
    """Augments each image by operations of its own, drawn from torch's global generator.

    Args:
        images: uint8 [B, C, H, W], of 1 or 3 channels.
        magnitude: from 0 to 10.
    """
    images, level = images.clone(), magnitude / TOP
    for _ in range(OPERATIONS_PER_IMAGE):
        count = len(images)
        drawn = torch.where(torch.rand(count) < PROBABILITY, torch.randint(len(OPERATIONS), (count,)), -1)
        negative = torch.rand(count) < 0.5
        for number, operation in enumerate(OPERATIONS):
            for sign in (1.0, -1.0):
                chosen = ((drawn == number) & (negative == (sign < 0))).nonzero().flatten().to(images.device)
                if len(chosen):
                    images[chosen] = operation(images[chosen], level, sign)
    return images


Operation = Callable[[Tensor, float, float], Tensor]
"""Of images uint8 [B, C, H, W], a level from 0 to 1, and a sign."""


def _auto_contrast(images: Tensor, level: float, sign: float) -> Tensor:  # noqa: ARG001
    return _transformed("autocontrast", images)


def _equalize(images: Tensor, level: float, sign: float) -> Tensor:  # noqa: ARG001
    return _transformed("equalize", images)


def _invert(images: Tensor, level: float, sign: float) -> Tensor:  # noqa: ARG001
    return images.bitwise_not()


def _posterize(images: Tensor, level: float, sign: float) -> Tensor:  # noqa: ARG001
    bits = BITS - int(BITS * level)
    return images.bitwise_and(256 - 2 ** (8 - bits))


def _solarize(images: Tensor, level: float, sign: float) -> Tensor:  # noqa: ARG001
    # As 16 bits: 256 is no number of 8.
    return torch.where(images.short() >= 256 - int(256 * level), images.bitwise_not(), images)


def _solarize_add(images: Tensor, level: float, sign: float) -> Tensor:  # noqa: ARG001
    added = (images.short() + int(ADDED * level)).clamp_(max=255).to(torch.uint8)
    return torch.where(images < 128, added, images)


def _saturation(images: Tensor, level: float, sign: float) -> Tensor:
    return _transformed("adjust_saturation", images, 1.0 + sign * ENHANCEMENT * level)


def _contrast(images: Tensor, level: float, sign: float) -> Tensor:
    return _transformed("adjust_contrast", images, 1.0 + sign * ENHANCEMENT * level)


def _brightness(images: Tensor, level: float, sign: float) -> Tensor:
    return _transformed("adjust_brightness", images, 1.0 + sign * ENHANCEMENT * level)


def _sharpness(images: Tensor, level: float, sign: float) -> Tensor:
    return _transformed("adjust_sharpness", images, 1.0 + sign * ENHANCEMENT * level)


def _rotate(images: Tensor, level: float, sign: float) -> Tensor:
    return _moved(images, angle=sign * ROTATION * level)


def _shear_x(images: Tensor, level: float, sign: float) -> Tensor:
    return _moved(images, shear=(math.degrees(math.atan(sign * SHEAR * level)), 0.0))


def _shear_y(images: Tensor, level: float, sign: float) -> Tensor:
    return _moved(images, shear=(0.0, math.degrees(math.atan(sign * SHEAR * level))))


def _translate_x(images: Tensor, level: float, sign: float) -> Tensor:
    return _moved(images, shift=(round(sign * TRANSLATION * level * images.shape[-1]), 0))


def _translate_y(images: Tensor, level: float, sign: float) -> Tensor:
    return _moved(images, shift=(0, round(sign * TRANSLATION * level * images.shape[-2])))


def _moved(
    images: Tensor,
    angle: float = 0.0,
    shift: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    fill = [FILL] * images.shape[1]
    return _transformed("affine", images, angle, [*shift], scale=1.0, shear=[*shear], fill=fill)


def _transformed(name: str, images: Tensor, *args: Any, **options: Any) -> Tensor:
    """By a function of torchvision."""
    from torchvision.transforms import functional  # takes long to import

    transformed: Tensor = getattr(functional, name)(images, *args, **options)
    return transformed


OPERATIONS: tuple[Operation, ...] = (
    *(_auto_contrast, _equalize, _invert, _posterize, _solarize, _solarize_add),
    *(_saturation, _contrast, _brightness, _sharpness),
    *(_rotate, _shear_x, _shear_y, _translate_x, _translate_y),
)
