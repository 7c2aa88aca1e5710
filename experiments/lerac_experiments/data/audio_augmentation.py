"""Augmentation of sound: noise, time shift, speed, SpecAugment and mix-up (Croitoru et al., section 4.2).

The paper names the methods and not their strength; the ranges below are our choice. All are drawn anew for each example
and epoch, from a generator of their own, so that neither the order of the examples nor the worker process matters.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lerac_experiments.data.examples import Batch

NOISE_SHARE = 0.5
"""Of the examples; the others are without noise, as they are in the test."""
NOISE_DB = 15.0, 40.0
"""White noise is this far below the clip."""
SHIFT = 0.1
"""At most, of the clip's length, to either side."""
SPEED = 0.9, 1.1
MASKS = 2
"""In time, and as many in frequency."""
MASK_SHARE = 0.1
"""At most, of the frames or mel bins, in each mask."""
MIX_ALPHA = 0.2
"""Of the beta distribution that mix-up draws from (Zhang et al., 2018)."""


class Augmentation:
    """How the examples of these indices are changed in an epoch."""

    def __init__(self, seed: int, epoch: int, indices: list[int]) -> None:
        self._generators = [np.random.default_rng((seed, epoch, index)) for index in indices]

    def waveforms(self, waveforms: Tensor) -> Tensor:
        """Waveforms [B, samples] at other speeds, shifted in time and with noise."""
        samples = waveforms.shape[1]
        speeds = self._column(generator.uniform(*SPEED) for generator in self._generators)
        shifts = self._column(generator.uniform(-SHIFT, SHIFT) * samples for generator in self._generators)
        decibels = self._column(generator.uniform(*NOISE_DB) for generator in self._generators)
        changed = resample((torch.arange(samples) - shifts) * speeds, waveforms)
        amplitudes = waveforms.square().mean(1, keepdim=True).sqrt() * 10 ** (-decibels / 20)
        for waveform, amplitude, generator in zip(changed, amplitudes, self._generators, strict=True):
            if generator.random() < NOISE_SHARE:
                waveform.addcmul_(torch.from_numpy(generator.standard_normal(samples, np.float32)), amplitude)
        return changed

    def spectrograms(self, spectrograms: Tensor) -> Tensor:
        """Pictures [B, 1, bins, frames] in which bands of bins and of frames are 0 (SpecAugment, Park et al., 2019)."""
        _, _, bins, frames = spectrograms.shape
        for spectrogram, generator in zip(spectrograms, self._generators, strict=True):
            for _ in range(MASKS):
                spectrogram[:, _band(generator, bins), :] = 0
                spectrogram[:, :, _band(generator, frames)] = 0
        return spectrograms

    @staticmethod
    def _column(values: Iterator[float]) -> Tensor:
        return torch.tensor([*values], dtype=torch.float32).unsqueeze(1)


def resample(positions: Tensor, waveforms: Tensor) -> Tensor:
    """Waveforms [B, samples] at these positions [B, M], in samples; linear between samples, and 0 beyond the ends."""
    samples = waveforms.shape[1]
    # One zero before the first sample and one after the last, which all positions beyond are moved to.
    padded = F.pad(waveforms, (1, 1))
    positions = (positions + 1).clamp_(0, samples + 1)
    left = positions.long().clamp_(max=samples)
    return torch.lerp(padded.gather(1, left), padded.gather(1, left + 1), positions - left)


def _band(generator: np.random.Generator, length: int) -> slice:
    width = int(generator.integers(int(MASK_SHARE * length) + 1))
    start = int(generator.integers(length - width + 1))
    return slice(start, start + width)


def mix_up(batch: Batch, generator: torch.Generator, classes: int) -> Batch:
    """Each example mixed with another of its batch, and so are their classes: float [B, classes].

    As in Zhang et al. (2018), the share of the other is the same for the whole batch.
    """
    inputs, targets = batch.inputs, batch.targets
    assert isinstance(inputs, Tensor), "sound is one tensor"
    assert isinstance(targets, Tensor), "it is classified"
    # torch has no beta distribution that takes a generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(MIX_ALPHA, MIX_ALPHA))
    others = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    one_hot = F.one_hot(targets, classes).to(inputs.dtype)
    return Batch(inputs.lerp(inputs[others], share), one_hot.lerp(one_hot[others], share), batch.indices)
