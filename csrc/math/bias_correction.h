// What the moments of Adam and Adamax are divided by, as they start at zero.
#pragma once

#include <cmath>

#include "math/hyperparameters.h"

namespace lerac_fast::math {

// For step t, counted from 1. In double, as 1 - beta^t loses digits.
LERAC_INLINE void correct_bias(Hyperparameters& h, double t) {
  h.bias_correction1 = 1 - pow(h.beta1, t);
  h.sqrt_bias_correction2 = sqrt(1 - pow(h.beta2, t));
}

} // namespace lerac_fast::math
