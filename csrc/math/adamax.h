// Adamax: Adam with the infinity norm in place of the second moment.
#pragma once

#include "math/elementary.h"
#include "math/hyperparameters.h"

namespace lerac_fast::math {

template <typename T> struct Adamax {
  static constexpr int kStates = 2; // exp_avg, exp_inf

  LERAC_INLINE explicit Adamax(const Hyperparameters& h)
      : gradient_factor(T(h.gradient_factor())), weight_decay(T(h.weight_decay)), one_minus_beta1(T(1 - h.beta1)),
        beta2(T(h.beta2)), step_size(T(h.lr / h.bias_correction1)), eps(T(h.eps)) {}

  LERAC_INLINE void operator()(T& param, T gradient, T* state) const {
    const T g = with_l2_decay(gradient * gradient_factor, param, weight_decay);
    const T m = lerp(state[0], g, one_minus_beta1);
    const T u = maximum(beta2 * state[1], absolute(g) + eps); // eps stands inside the maximum
    state[0] = m;
    state[1] = u;
    param -= step_size * m / u;
  }

  T gradient_factor, weight_decay, one_minus_beta1, beta2, step_size, eps;
};

} // namespace lerac_fast::math
