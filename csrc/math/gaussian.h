// The Gaussian, and how a value is smoothed by it.
#pragma once

#include <cmath>
#include <cstdint>

#include "math/inline.h"

namespace lerac_fast::math {

// exp(-x^2 / (2 sigma^2)) for x > 0: 0 where sigma is 0, 1 where it is infinite. Source: Sinha, Garg, Larochelle,
// "Curriculum by Smoothing".
LERAC_INLINE double gaussian(double x, double sigma) { return std::exp(-x * x / (2 * sigma * sigma)); }

// The sum of gaussian(i) over |i| <= radius, however large: of more than so many terms that are not zero by the
// Euler-Maclaurin formula, whose odd derivatives vanish at 0, and which leaves out less than double resolves.
LERAC_INLINE double gaussian_sum(int64_t radius, double sigma) {
  constexpr int64_t kTerms = 4096;
  if (radius > kTerms && gaussian(double(kTerms), sigma) > 0) {
    const double reach = double(radius), last = gaussian(reach, sigma);
    const double z = reach / sigma, u = z / std::sqrt(2.0);
    const double half_area = u > 0 ? reach * std::erf(u) / u * 0.886226925452758014 : reach; // sqrt(pi) / 2
    const double first_derivative = -z / sigma * last;
    const double third_derivative = (3 - z * z) * z / (sigma * sigma * sigma) * last;
    return 2 * half_area + last + first_derivative / 6 - third_derivative / 360;
  }
  double sum = 1;
  for (int64_t i = 1; i <= radius; ++i) {
    const double weight = gaussian(double(i), sigma);
    if (weight == 0) break;
    sum += 2 * weight;
  }
  return sum;
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
