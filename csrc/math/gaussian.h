// The normalised Gaussian, and how a value is smoothed by it.
#pragma once

#include <cmath>
#include <cstdint>

#include "math/inline.h"

namespace lerac_fast::math {

// The weights w(i) = exp(-i^2 / (2 sigma^2)) / sum of i = 0..radius; those of -i are the same. sigma = 0 gives the
// identity, an infinite one the mean. Source: Sinha, Garg, Larochelle, "Curriculum by Smoothing".
template <typename T> LERAC_INLINE void gaussian_weights(double sigma, int64_t radius, T* weights) {
  double sum = 1;
  for (int64_t i = 1; i <= radius; ++i) sum += 2 * std::exp(-double(i * i) / (2 * sigma * sigma));
  weights[0] = T(1 / sum);
  for (int64_t i = 1; i <= radius; ++i) weights[i] = T(std::exp(-double(i * i) / (2 * sigma * sigma)) / sum);
}

// The nearest neighbours come with the centre, farther ones are added. Neighbours in pairs, so that the sum is the same
// seen from either side; beyond the border they are zero.
template <typename T> LERAC_INLINE T smooth_nearest(T center, T before, T after, T weight0, T weight1) {
  return weight0 * center + weight1 * (before + after);
}
template <typename T> LERAC_INLINE T smooth_farther(T sum, T before, T after, T weight) {
  return sum + weight * (before + after);
}

} // namespace lerac_fast::math
