"""Optimizers, those of `torch.optim` and Lion, whose step costs the same for any number of learning rates."""

from lerac_fast.optim.adam import Adam as Adam
from lerac_fast.optim.adamax import Adamax as Adamax
from lerac_fast.optim.adamw import AdamW as AdamW
from lerac_fast.optim.lion import Lion as Lion
from lerac_fast.optim.ranks import check_ranks as check_ranks
from lerac_fast.optim.regroup import regroup as regroup
from lerac_fast.optim.sgd import SGD as SGD

__all__ = ["SGD", "Adam", "AdamW", "Adamax", "Lion", "check_ranks", "regroup"]
