// Scalar helpers shared by the update rules.
#pragma once

#include <cmath>

#include "math/inline.h"

namespace lerac_fast::math {

// The larger of two numbers, NaN if either is NaN (std::fmax would swallow it). Without short-circuit, so that loops
// vectorize.
template <typename T> LERAC_INLINE T maximum(T a, T b) { return ((a > b) | (a != a)) ? a : b; }

// Gradient with L2 decay. A blend and not a product with zero: 0 x inf would be NaN.
template <typename T> LERAC_INLINE T with_l2_decay(T gradient, T param, T weight_decay) {
  return weight_decay != T(0) ? gradient + weight_decay * param : gradient;
}

// The point between `start` and `end` at `weight`, in the form of torch.lerp: exact at both ends.
template <typename T> LERAC_INLINE T lerp(T start, T end, T weight) {
  return weight < T(0.5) ? start + weight * (end - start) : end - (end - start) * (T(1) - weight);
}

LERAC_INLINE float square_root(float x) { return sqrtf(x); }
LERAC_INLINE double square_root(double x) { return sqrt(x); }
LERAC_INLINE float absolute(float x) { return fabsf(x); }
LERAC_INLINE double absolute(double x) { return fabs(x); }

} // namespace lerac_fast::math
