// SGD, without and with momentum, as torch.optim.SGD computes it.
#pragma once

#include "math/elementary.h"
#include "math/hyperparameters.h"

namespace lerac_fast::math {

template <typename T> struct Sgd {
  static constexpr int kStates = 0;

  LERAC_INLINE explicit Sgd(const Hyperparameters& h)
      : gradient_factor(T(h.gradient_factor())), weight_decay(T(h.weight_decay)), lr(T(h.lr)) {}

  LERAC_INLINE void operator()(T& param, T gradient, T*) const {
    param -= lr * with_l2_decay(gradient * gradient_factor, param, weight_decay);
  }

  T gradient_factor, weight_decay, lr;
};

template <typename T> struct SgdMomentum {
  static constexpr int kStates = 1; // momentum_buffer

  LERAC_INLINE explicit SgdMomentum(const Hyperparameters& h)
      : gradient_factor(T(h.gradient_factor())), weight_decay(T(h.weight_decay)), lr(T(h.lr)), momentum(T(h.momentum)),
        one_minus_dampening(T(1 - h.dampening)), nesterov(h.nesterov), first_step(h.first_step) {}

  LERAC_INLINE void operator()(T& param, T gradient, T* state) const {
    const T g = with_l2_decay(gradient * gradient_factor, param, weight_decay);
    // The first buffer is the gradient itself, undampened; what the memory held before is not looked at.
    const T buffer = first_step ? g : momentum * state[0] + one_minus_dampening * g;
    state[0] = buffer;
    param -= lr * (nesterov ? g + momentum * buffer : buffer);
  }

  T gradient_factor, weight_decay, lr, momentum, one_minus_dampening;
  bool nesterov, first_step;
};

} // namespace lerac_fast::math
