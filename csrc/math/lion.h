// Lion: the sign of an interpolated momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Alg.
// 2).
#pragma once

#include "math/hyperparameters.h"
#include "math/inline.h"

namespace lerac_fast::math {

template <typename T> struct Lion {
  static constexpr int kStates = 1; // exp_avg

  LERAC_INLINE explicit Lion(const Hyperparameters& h)
      : gradient_factor(T(h.gradient_factor())), shrinkage(T(1 - h.lr * h.weight_decay)), lr(T(h.lr)),
        beta1(T(h.beta1)), one_minus_beta1(T(1 - h.beta1)), beta2(T(h.beta2)), one_minus_beta2(T(1 - h.beta2)) {}

  LERAC_INLINE void operator()(T& param, T gradient, T* state) const {
    const T g = gradient * gradient_factor;
    const T m = state[0];
    const T direction = beta1 * m + one_minus_beta1 * g;
    state[0] = beta2 * m + one_minus_beta2 * g;
    const T sign = T(direction > T(0)) - T(direction < T(0)); // as torch.sign: 0 of 0 and of NaN
    param = param * shrinkage - lr * sign;
  }

  T gradient_factor, shrinkage, lr, beta1, one_minus_beta1, beta2, one_minus_beta2;
};

} // namespace lerac_fast::math
