// Adam and AdamW (they differ in where the weight decay enters), without and with amsgrad.
#pragma once

#include "math/elementary.h"
#include "math/hyperparameters.h"

namespace lerac_fast::math {

template <typename T, bool amsgrad> struct AdamRule {
  static constexpr int kStates = amsgrad ? 3 : 2; // exp_avg, exp_avg_sq, max_exp_avg_sq

  LERAC_INLINE explicit AdamRule(const Hyperparameters& h)
      : gradient_factor(T(h.gradient_factor())), l2_decay(h.decoupled_weight_decay ? T(0) : T(h.weight_decay)),
        shrinkage(h.decoupled_weight_decay ? T(1 - h.lr * h.weight_decay) : T(1)), one_minus_beta1(T(1 - h.beta1)),
        beta2(T(h.beta2)), one_minus_beta2(T(1 - h.beta2)), step_size(T(h.lr / h.bias_correction1)),
        inverse_sqrt_bias_correction2(T(1 / h.sqrt_bias_correction2)), eps(T(h.eps)) {}

  LERAC_INLINE void operator()(T& param, T gradient, T* state) const {
    param *= shrinkage; // AdamW decays first, by the layer's own rate
    const T g = with_l2_decay(gradient * gradient_factor, param, l2_decay);
    const T m = lerp(state[0], g, one_minus_beta1);
    const T v = beta2 * state[1] + one_minus_beta2 * g * g;
    state[0] = m;
    state[1] = v;
    T second_moment = v;
    if constexpr (amsgrad) second_moment = state[2] = maximum(state[2], v); // the maximum is of the raw v
    param -= step_size * m / (square_root(second_moment) * inverse_sqrt_bias_correction2 + eps);
  }

  T gradient_factor, l2_decay, shrinkage, one_minus_beta1, beta2, one_minus_beta2;
  T step_size, inverse_sqrt_bias_correction2, eps;
};

template <typename T> using Adam = AdamRule<T, false>;
template <typename T> using AdamAmsgrad = AdamRule<T, true>;

} // namespace lerac_fast::math
