"""The formulae of `csrc/math`, under the same names, for Triton kernels: the only second copy of them.

They work on tensors of the arithmetic's type, float32 or float64, element by element.
"""

# ruff: noqa: ARG001 - every rule takes the same arguments

import triton
import triton.language as tl

from lerac_fast._native.extension import extension


@triton.jit
def maximum(a, b):
    """The larger of the two, or NaN if one of them is."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def divide(a, b):
    """a / b, rounded to nearest. In float32 a plain `/` is only close to that."""
    return a / b if a.dtype == tl.float64 else tl.div_rn(a, b)


@triton.jit
def square_root(x):
    """Rounded to nearest."""
    return tl.sqrt(x) if x.dtype == tl.float64 else tl.sqrt_rn(x)


@triton.jit
def with_l2_decay(gradient, param, weight_decay):
    """A blend and not a product with zero: 0 x inf would be NaN."""
    return tl.where(weight_decay != 0, gradient + weight_decay * param, gradient)


@triton.jit
def lerp(start, end, weight):
    """The point between `start` and `end` at `weight`, in the form of torch.lerp: exact at both ends."""
    return tl.where(weight < 0.5, start + weight * (end - start), end - (end - start) * (1 - weight))


# ---- hyperparameters.h: where each stands among a row's float64 numbers ----


def _number(name: str) -> tl.constexpr:
    return tl.constexpr(extension.NUMBERS.index(name))


LR = _number("lr")
WEIGHT_DECAY = _number("weight_decay")
EPS = _number("eps")
BETA1 = _number("beta1")
BETA2 = _number("beta2")
MOMENTUM = _number("momentum")
DAMPENING = _number("dampening")
NESTEROV = _number("nesterov")
MAXIMIZE = _number("maximize")
DECOUPLED_WEIGHT_DECAY = _number("decoupled_weight_decay")
FIRST_STEP = _number("first_step")
INVERSE_SCALE = _number("inverse_scale")
BIAS_CORRECTION1 = _number("bias_correction1")
SQRT_BIAS_CORRECTION2 = _number("sqrt_bias_correction2")
NUMBERS = tl.constexpr(len(extension.NUMBERS))


@triton.jit
def scaled_gradient(gradient, h):
    """The gradient as the rules take it: unscaled, and turned round to maximize."""
    inverse_scale = tl.load(h + INVERSE_SCALE)
    factor = tl.where(tl.load(h + MAXIMIZE) != 0, -inverse_scale, inverse_scale)
    return gradient * factor.to(gradient.dtype)


# ---- bias_correction.h ----


@triton.jit
def bias_correction(beta, t):
    """1 - beta^t, in float64, as it loses digits."""
    return 1 - tl.exp2(t * tl.log2(beta))


# ---- sgd.h, adam.h, adamax.h, lion.h: the parameter and the states after a step; what a rule lacks, untouched ----


@triton.jit
def sgd(param, gradient, state0, state1, state2, h, correction1, sqrt_correction2):
    T: tl.constexpr = param.dtype
    g = with_l2_decay(scaled_gradient(gradient, h), param, tl.load(h + WEIGHT_DECAY).to(T))
    return param - tl.load(h + LR).to(T) * g, state0, state1, state2


@triton.jit
def sgd_momentum(param, gradient, buffer, state1, state2, h, correction1, sqrt_correction2):
    T: tl.constexpr = param.dtype
    momentum = tl.load(h + MOMENTUM).to(T)
    g = with_l2_decay(scaled_gradient(gradient, h), param, tl.load(h + WEIGHT_DECAY).to(T))
    # The first buffer is the gradient itself, undampened; what the memory held before is not looked at.
    undampened = (1 - tl.load(h + DAMPENING)).to(T) * g
    buffer = tl.where(tl.load(h + FIRST_STEP) != 0, g, momentum * buffer + undampened)
    direction = tl.where(tl.load(h + NESTEROV) != 0, g + momentum * buffer, buffer)
    return param - tl.load(h + LR).to(T) * direction, buffer, state1, state2


@triton.jit
def _adam(param, gradient, m, v, largest_v, h, correction1, sqrt_correction2, AMSGRAD: tl.constexpr):
    T: tl.constexpr = param.dtype
    lr = tl.load(h + LR)
    weight_decay = tl.load(h + WEIGHT_DECAY)
    decoupled = tl.load(h + DECOUPLED_WEIGHT_DECAY) != 0
    beta2 = tl.load(h + BETA2)
    param *= tl.where(decoupled, 1 - lr * weight_decay, 1.0).to(T)  # AdamW decays first, by the layer's own rate
    g = with_l2_decay(scaled_gradient(gradient, h), param, tl.where(decoupled, 0.0, weight_decay).to(T))
    m = lerp(m, g, (1 - tl.load(h + BETA1)).to(T))
    v = beta2.to(T) * v + (1 - beta2).to(T) * g * g
    second_moment = v
    if AMSGRAD:
        largest_v = maximum(largest_v, v)  # the maximum is of the raw v
        second_moment = largest_v
    denominator = square_root(second_moment) * (1 / sqrt_correction2).to(T) + tl.load(h + EPS).to(T)
    return param - divide((lr / correction1).to(T) * m, denominator), m, v, largest_v


@triton.jit
def adam(param, gradient, m, v, state2, h, correction1, sqrt_correction2):
    return _adam(param, gradient, m, v, state2, h, correction1, sqrt_correction2, False)


@triton.jit
def adam_amsgrad(param, gradient, m, v, largest_v, h, correction1, sqrt_correction2):
    return _adam(param, gradient, m, v, largest_v, h, correction1, sqrt_correction2, True)


@triton.jit
def adamax(param, gradient, m, u, state2, h, correction1, sqrt_correction2):
    T: tl.constexpr = param.dtype
    g = with_l2_decay(scaled_gradient(gradient, h), param, tl.load(h + WEIGHT_DECAY).to(T))
    m = lerp(m, g, (1 - tl.load(h + BETA1)).to(T))
    # eps stands inside the maximum
    u = maximum(tl.load(h + BETA2).to(T) * u, tl.abs(g) + tl.load(h + EPS).to(T))
    return param - divide((tl.load(h + LR) / correction1).to(T) * m, u), m, u, state2


@triton.jit
def lion(param, gradient, m, state1, state2, h, correction1, sqrt_correction2):
    T: tl.constexpr = param.dtype
    lr, beta1, beta2 = tl.load(h + LR), tl.load(h + BETA1), tl.load(h + BETA2)
    g = scaled_gradient(gradient, h)
    direction = beta1.to(T) * m + (1 - beta1).to(T) * g
    m = beta2.to(T) * m + (1 - beta2).to(T) * g
    sign = (direction > 0).to(T) - (direction < 0).to(T)  # as torch.sign: 0 of 0 and of NaN
    param = param * (1 - lr * tl.load(h + WEIGHT_DECAY)).to(T) - lr.to(T) * sign
    return param, m, state1, state2


RULES = {  # by the names of their functors in csrc/math
    "Sgd": sgd,
    "SgdMomentum": sgd_momentum,
    "Adam": adam,
    "AdamAmsgrad": adam_amsgrad,
    "Adamax": adamax,
    "Lion": lion,
}


# ---- gaussian.h ----


@triton.jit
def smooth_nearest(center, before, after, weight0, weight1):
    return weight0 * center + weight1 * (before + after)


@triton.jit
def smooth_farther(total, before, after, weight):
    return total + weight * (before + after)


# ---- tempered_cross_entropy.h ----


@triton.jit
def tempered_loss(wanted, aimed, log_of_exponentials, inverse_sigma):
    return wanted * log_of_exponentials - aimed * inverse_sigma


@triton.jit
def tempered_loss_by_sigma(exponentials, expected, wanted, aimed, inverse_sigma):
    surplus = aimed - wanted * divide(expected, exponentials)
    return surplus * inverse_sigma * inverse_sigma


@triton.jit
def tempered_loss_by_logit(probability, wanted_probability, wanted, gradient_by_sigma):
    return (probability * wanted - wanted_probability) * gradient_by_sigma
