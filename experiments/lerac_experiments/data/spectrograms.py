"""Sound as pictures: mel spectrograms on a logarithmic scale (Croitoru et al., section 4.2).

The paper gives the Fourier transform, the window, the hops, the square root of the magnitude, the 128 mel bins, the
logarithmic scale and the interval [0, 1]. Our choices, where it is silent: frames are centred, with zeros beyond the
ends; mel filters are Slaney's, as librosa's; 0 is 80 dB below the loudest point of the clip, which is 1.
"""

import torch
from torch import Tensor

FFT = 1024
WINDOW = 512
MEL_BINS = 128
RANGE_DB = 80.0
_BAND = 32  # mel bins

# Of the square root of the magnitude: 20 log10(magnitude) = 40 log10(its square root).
_FLOOR = 10 ** (-RANGE_DB / 40)


class MelSpectrogram:
    """Makes pictures [B, 1, 128, 1 + samples // hop] of waveforms [B, samples], float32.

    Args:
        sample_rate: in Hz.
        hop: samples from one frame to the next.
    """

    def __init__(self, sample_rate: int, hop: int) -> None:
        from transformers.audio_utils import mel_filter_bank  # Takes long to import.

        bank = mel_filter_bank(
            FFT // 2 + 1, MEL_BINS, 0.0, sample_rate / 2, sample_rate, norm="slaney", mel_scale="slaney"
        )
        # Filters are narrow: those of a band are all zero beyond a few frequencies, which need not be multiplied.
        self._bands = [_cropped(band) for band in torch.from_numpy(bank).float().split(_BAND, dim=1)]
        self._window = torch.hamming_window(WINDOW)
        self._hop = hop

    def __call__(self, waveforms: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveforms, FFT, self._hop, WINDOW, self._window, center=True, pad_mode="constant", return_complex=True
        )
        # The square root of the magnitude; abs() would guard against overflow that cannot occur, in thrice the time.
        root = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag).sqrt_().sqrt_().transpose(1, 2)
        mel = torch.cat([root[:, :, frequencies] @ band for frequencies, band in self._bands], dim=2)
        loudest = mel.amax((1, 2), keepdim=True).clamp_min(torch.finfo(mel.dtype).tiny)
        decibels = mel.div_(loudest).clamp_min_(_FLOOR).log10_().mul_(40)
        return decibels.div_(RANGE_DB).add_(1).transpose(1, 2).unsqueeze(1).contiguous()


def _cropped(filters: Tensor) -> tuple[slice, Tensor]:
    """Filters [frequencies, bins] without the frequencies below and above all of them, and which those kept are."""
    used = filters.any(1).nonzero().flatten()
    frequencies = slice(int(used[0]), int(used[-1]) + 1)
    return frequencies, filters[frequencies].contiguous()
