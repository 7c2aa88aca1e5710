// Everything that the update of one tensor depends on besides its elements. In double: each rule narrows what it needs.
#pragma once

#include "math/inline.h"

// The numbers, by whom they belong to. X(type, name, value unless said otherwise)
#define LERAC_FAST_GROUP_NUMBERS(X)                                                                                    \
  X(double, lr, 0)                                                                                                     \
  X(double, weight_decay, 0)                                                                                           \
  X(double, eps, 0)                                                                                                    \
  X(double, beta1, 0)                                                                                                  \
  X(double, beta2, 0)                                                                                                  \
  X(double, momentum, 0)                                                                                               \
  X(double, dampening, 0)                                                                                              \
  X(bool, nesterov, false)                                                                                             \
  X(bool, maximize, false)                                                                                             \
  X(bool, decoupled_weight_decay, false)
// Of a tensor, as each counts its own steps: 1 - beta1^t; sqrt(1 - beta2^t); the states hold nothing yet.
#define LERAC_FAST_TENSOR_NUMBERS(X)                                                                                   \
  X(double, bias_correction1, 1)                                                                                       \
  X(double, sqrt_bias_correction2, 1)                                                                                  \
  X(bool, first_step, false)
// Of a step: 1 / the loss scale of a GradScaler, 1 when the gradients are not scaled.
#define LERAC_FAST_STEP_NUMBERS(X) X(double, inverse_scale, 1)

#define LERAC_FAST_NUMBERS(X) LERAC_FAST_GROUP_NUMBERS(X) LERAC_FAST_TENSOR_NUMBERS(X) LERAC_FAST_STEP_NUMBERS(X)

namespace lerac_fast::math {

#define X(type, name, value) type name = value;
struct GroupNumbers {
  LERAC_FAST_GROUP_NUMBERS(X)
  bool amsgrad = false; // chooses the rule, which does not read it
  bool operator==(const GroupNumbers&) const = default;
};
struct TensorNumbers {
  LERAC_FAST_TENSOR_NUMBERS(X)
  bool operator==(const TensorNumbers&) const = default;
};
struct StepNumbers {
  LERAC_FAST_STEP_NUMBERS(X)
  bool operator==(const StepNumbers&) const = default;
};
#undef X

struct Hyperparameters : GroupNumbers, TensorNumbers, StepNumbers {
  LERAC_INLINE double gradient_factor() const { return maximize ? -inverse_scale : inverse_scale; }

  bool operator==(const Hyperparameters&) const = default;
};

} // namespace lerac_fast::math
