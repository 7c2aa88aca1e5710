// bfloat16 and IEEE half as storage types: computed in float, rounded once at the store, to nearest even.
// Plain integer and float arithmetic without branches, so that loops over them vectorize on every instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#include "math/inline.h"

namespace lerac_fast::math {

LERAC_INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}

LERAC_INLINE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

struct BFloat16 {
  uint16_t bits;
};

struct Half {
  uint16_t bits;
};

LERAC_INLINE float load(float x) { return x; }
LERAC_INLINE double load(double x) { return x; }

LERAC_INLINE float load(BFloat16 x) { return float_of(uint32_t(x.bits) << 16); }

LERAC_INLINE float load(Half x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16;
  const uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13; // exponent and mantissa where float has them
  // Adding 112 to the exponent moves its bias from 15 to 127. A subnormal half is the fraction of 2^-14 that is left
  // when the whole is taken off again; the way there leads over normal floats only, so that it holds where subnormal
  // ones are taken for zero (torch.set_flush_denormal).
  const float finite =
      magnitude < 0x00800000 ? float_of(magnitude | 0x38800000) - 0x1p-14f : float_of(magnitude + 0x38000000);
  const uint32_t special = magnitude | 0x7f800000; // infinities and NaN
  return float_of(sign | (magnitude >= 0x0f800000 ? special : bits_of(finite)));
}

LERAC_INLINE void store(float& to, float x) { to = x; }
LERAC_INLINE void store(double& to, double x) { to = x; }

LERAC_INLINE void store(BFloat16& to, float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

LERAC_INLINE void store(Half& to, float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  // Normal results: rebias the exponent by -112 and round off 13 bits; a carry may run into the exponent, as it should.
  const uint32_t normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Subnormal results: added to 0.5 the number is rounded at 2^-24, the last bit of a half, by the addition itself.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
  uint32_t half = magnitude < 0x38800000 ? subnormal : normal; // below 2^-14
  half = magnitude >= 0x47800000 ? 0x7c00 : half;              // 2^16 and above; smaller ones overflow by their carry
  half = magnitude > 0x7f800000 ? 0x7e00 : half;
  to.bits = uint16_t(sign | half);
}

// The type in which an element of a storage type is computed.
template <typename Element> struct ComputeType {
  using type = float;
};
template <> struct ComputeType<double> {
  using type = double;
};
template <typename Element> using Compute = typename ComputeType<Element>::type;

} // namespace lerac_fast::math
