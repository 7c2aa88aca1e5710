"""EfficientTrain (Wang et al., ICCV 2023; arXiv 2211.09703): first the low frequencies of images, little augmented."""

import torch
from torch import Tensor, nn

from lerac_experiments.data.examples import Batch
from lerac_experiments.errors import ExperimentError
from lerac_experiments.training.phases import BANDWIDTHS
from lerac_experiments.training.rand_augment import rand_augment
from lerac_experiments.training.regimes.ingredient import Ingredient, Setup, StepCount

HIGHEST_MAGNITUDE = 9.0
"""Of RandAugment, at the end of the training."""


class LowFrequencies(Ingredient):
    """Images are cropped in their spectrum, and so are smaller; the window grows in steps to all of it.

    A model that takes images of one size alone is given the same frequencies in images of that size: it learns from
    the same, and saves no time.
    """

    def __init__(self, setup: Setup) -> None:
        self.kept = self._steps = StepCount()
        self._total = setup.total_steps
        images = _images(setup)
        self._side = images.shape[-1]
        self._crops = _takes(setup.model, low_frequencies(images, BANDWIDTHS[0][1]))

    @property
    def share(self) -> float:
        """Of the frequencies along each side, in the next step."""
        done = self._steps.done / self._total
        return next((share for end, share in BANDWIDTHS if done < end), 1.0)

    @property
    def active(self) -> bool:
        return self.share < 1.0

    def on_batch(self, batch: Batch) -> Batch:
        if not self.active:
            return batch
        assert isinstance(batch.inputs, Tensor)
        reduced = low_frequencies if self._crops else low_pass
        return batch._replace(inputs=reduced(batch.inputs, self.share))

    def on_step(self) -> None:
        self._steps.done += 1

    def trace(self) -> dict[str, float]:
        kept = kept_of(self._side, self.share)
        return {"bandwidth": float(kept), "side": float(kept if self._crops else self._side)}


class Augmentation(Ingredient):
    """RandAugment, always at the magnitude that `RisingAugmentation` ends with: what that is to be compared with."""

    def __init__(self, setup: Setup) -> None:
        if setup.parts.normalisation is None:
            raise ExperimentError(
                f"{setup.trial.regime} augments pixels, and it is not known how those of {setup.trial.data} were "
                "normalised: have the data set say so (Parts.normalisation), or choose the regime low-frequency"
            )
        channels = _images(setup).shape[1]
        if channels not in (1, 3):
            raise ExperimentError(
                f"{setup.trial.regime} augments grey and colour images, of 1 or 3 channels, and {setup.trial.data} has "
                f"{channels}: choose the regime low-frequency"
            )
        self._mean, self._deviation = (values.to(setup.ranks.device) for values in setup.parts.normalisation)

    @property
    def magnitude(self) -> float:
        """In the next step, of 10."""
        return HIGHEST_MAGNITUDE

    def on_batch(self, batch: Batch) -> Batch:
        assert isinstance(batch.inputs, Tensor)
        shades = batch.inputs * self._deviation + self._mean
        pixels = shades.clamp_(0.0, 1.0).mul_(255.0).round_().to(torch.uint8)
        augmented = rand_augment(pixels, self.magnitude).to(batch.inputs.dtype).div_(255.0)
        return batch._replace(inputs=augmented.sub_(self._mean).div_(self._deviation))

    def trace(self) -> dict[str, float]:
        return {"magnitude": self.magnitude}


class RisingAugmentation(Augmentation):
    """RandAugment, whose magnitude rises linearly from 0."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.kept = self._steps = StepCount()
        self._total = setup.total_steps

    @property
    def magnitude(self) -> float:
        return HIGHEST_MAGNITUDE * self._steps.done / self._total

    def on_step(self) -> None:
        self._steps.done += 1


def kept_of(side: int, share: float) -> int:
    """How many of the frequencies of a side are kept: an even number, as near to the share as there is."""
    return side if share >= 1.0 else max(2, 2 * round(share * side / 2))


def low_frequencies(images: Tensor, share: float) -> Tensor:
    """Crops the spectra of images to their centre, and returns the smaller images that have these.

    The discrete Fourier transform grows with the number of pixels; values are scaled by what the crop leaves of them,
    so that brightness stays.

    Args:
        images: [B, C, H, W].
        share: of the frequencies of each side; `kept_of` says how many these are.

    Returns:
        [B, C, h, w].
    """
    height, width = images.shape[-2:]
    rows, columns = (_lowest(side, kept_of(side, share), images.device) for side in (height, width))
    spectra = torch.fft.fft2(images)[..., rows[:, None], columns]
    cropped: Tensor = torch.fft.ifft2(spectra).real
    return cropped * (len(rows) * len(columns) / (height * width))


def low_pass(images: Tensor, share: float) -> Tensor:
    """The same frequencies in images of the size that they come in: [B, C, H, W]."""
    height, width = images.shape[-2:]
    rows, columns = (_lowest(side, kept_of(side, share), images.device) for side in (height, width))
    mask = images.new_zeros(height, width)
    mask[rows[:, None], columns] = 1.0
    smooth: Tensor = torch.fft.ifft2(torch.fft.fft2(images) * mask).real
    return smooth


def _lowest(side: int, kept: int, device: torch.device) -> Tensor:
    """Where the lowest frequencies of a transform are: those from 0 upwards at its start, the negative at its end."""
    numbers = torch.arange(side, device=device)
    return torch.cat([numbers[: (kept + 1) // 2], numbers[side - kept // 2 :]])


def _images(setup: Setup) -> Tensor:
    """Two training images."""
    images = setup.first_inputs(2)
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise ExperimentError(
            f"{setup.trial.regime} crops the spectra of images in batches, and {setup.trial.data} has none"
        )
    return images


def _takes(model: nn.Module, images: Tensor) -> bool:
    """Whether a model takes images of this size."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(images)
    except Exception:  # whatever the model makes of sizes that do not fit
        return False
    finally:
        model.train(training)
    return True
