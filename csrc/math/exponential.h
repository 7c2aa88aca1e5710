// exp for vectors of numbers, which compilers do not vectorize by themselves.
#pragma once

#include <cmath>

#include "math/vector.h"

namespace lerac_fast::math {

// exp(x) to about two units in the last place, for x up to 80; 0 from -87 on, where float would become subnormal.
// Cody and Waite's reduction, x = n ln 2 + r with |r| <= ln 2 / 2, and the polynomial of Cephes' expf.
template <typename V> LERAC_INLINE V exponential_of_floats(V x) {
  using Bits = Vector<uint32_t, sizeof(V)>;
  constexpr float kLowest = -87.0f, kRound = 0x1.8p23f; // adding this rounds to an integer, found in the last bits
  const V bounded = x < kLowest ? V{} + kLowest : x;
  const V shifted = bounded * 0x1.715476p0f + kRound;
  const V n = shifted - kRound;
  const V r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const V mantissa = p * (r * r) + r + 1.0f;
  const Bits exponent = (reinterpret<Bits>(shifted) - reinterpret<Bits>(V{} + kRound) + 127) << 23;
  const V result = mantissa * reinterpret<V>(exponent);
  return x < kLowest ? V{} : result;
}

template <typename V> LERAC_INLINE V exponential_of_doubles(V x) {
  V result;
  for (size_t i = 0; i < sizeof(V) / sizeof(double); ++i) result[i] = std::exp(x[i]);
  return result;
}

template <typename T, typename V> LERAC_INLINE V exponential(V x) {
  if constexpr (sizeof(T) == sizeof(float))
    return exponential_of_floats(x);
  else
    return exponential_of_doubles(x);
}

} // namespace lerac_fast::math
