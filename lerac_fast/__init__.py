"""A learning rate of its own for every layer, in one fused optimizer step, and curricula that build on it."""

from lerac_fast._native.build_info import build_info as build_info
from lerac_fast._native.gpu_backend import gpu_backend as gpu_backend
from lerac_fast._version import __version__ as __version__
from lerac_fast.cbs.cbs import CBS as CBS
from lerac_fast.cbs.sites import Tokens as Tokens
from lerac_fast.data_parameters.detection import TemperedAnchors as TemperedAnchors
from lerac_fast.data_parameters.detection import anchor_temperatures as anchor_temperatures
from lerac_fast.data_parameters.indices import with_indices as with_indices
from lerac_fast.data_parameters.loss import DataParameters as DataParameters
from lerac_fast.layers.groups import layer_groups as layer_groups
from lerac_fast.layers.groups import layer_order as layer_order
from lerac_fast.lerac.scheduler import LeRaC as LeRaC
from lerac_fast.lerac.snr import signal_to_noise as signal_to_noise
from lerac_fast.ops.gaussian_smooth import GaussianSmooth as GaussianSmooth
from lerac_fast.ops.gaussian_smooth import gaussian_smooth as gaussian_smooth
from lerac_fast.ops.gaussian_smooth import gaussian_smooth_ as gaussian_smooth_
from lerac_fast.ops.tempered_cross_entropy import tempered_cross_entropy as tempered_cross_entropy

__all__ = [
    "CBS",
    "DataParameters",
    "GaussianSmooth",
    "LeRaC",
    "TemperedAnchors",
    "Tokens",
    "__version__",
    "anchor_temperatures",
    "build_info",
    "gaussian_smooth",
    "gaussian_smooth_",
    "gpu_backend",
    "layer_groups",
    "layer_order",
    "signal_to_noise",
    "tempered_cross_entropy",
    "with_indices",
]
