// The Gaussian, and how a value is smoothed by it.
#pragma once

#include <cmath>

#include "math/inline.h"

namespace lerac_fast::math {

// exp(-x^2 / (2 sigma^2)) for x > 0: 0 where sigma is 0, 1 where it is infinite. Source: Sinha, Garg, Larochelle,
// "Curriculum by Smoothing".
LERAC_INLINE double gaussian(double x, double sigma) { return std::exp(-x * x / (2 * sigma * sigma)); }

// The nearest neighbours come with the centre, farther ones are added. Neighbours in pairs, so that the sum is the same
// seen from either side; beyond the border they are zero.
template <typename T> LERAC_INLINE T smooth_nearest(T center, T before, T after, T weight0, T weight1) {
  return weight0 * center + weight1 * (before + after);
}
template <typename T> LERAC_INLINE T smooth_farther(T sum, T before, T after, T weight) {
  return sum + weight * (before + after);
}

} // namespace lerac_fast::math
