// bfloat16 and IEEE half as storage types: computed in float, rounded once at the store, to nearest even.
// Plain integer and float arithmetic without branches, so that loops over them vectorize on every instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#include "math/inline.h"

namespace lerac_fast::math {

template <typename To, typename From> LERAC_INLINE To reinterpret(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// ---- conversions: Bits is uint32_t and Float is float, or both are vectors of these (math/vector.h) ----

template <typename Float, typename Bits> LERAC_INLINE Float float_of_bfloat16(Bits bfloat16) {
  return reinterpret<Float>(bfloat16 << 16);
}

template <typename Bits, typename Float> LERAC_INLINE Bits bfloat16_of_float(Float x) {
  const auto bits = reinterpret<Bits>(x);
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? Bits{} + 0x7fc0 : rounded;
}

template <typename Float, typename Bits> LERAC_INLINE Float float_of_half(Bits half) {
  const Bits sign = (half & 0x8000) << 16;
  const Bits magnitude = (half & 0x7fff) << 13; // exponent and mantissa where float has them
  // Adding 112 to the exponent moves its bias from 15 to 127. A subnormal half is the fraction of 2^-14 that is left
  // when the whole is taken off again; the way there leads over normal floats only, so that it holds where subnormal
  // ones are taken for zero (torch.set_flush_denormal).
  const auto normal = magnitude + 0x38000000;
  const auto subnormal = reinterpret<Bits>(reinterpret<Float>(magnitude | 0x38800000) - 0x1p-14f);
  const Bits finite = magnitude < 0x00800000 ? subnormal : normal;
  const Bits special = magnitude | 0x7f800000; // infinities and NaN
  return reinterpret<Float>(sign | (magnitude >= 0x0f800000 ? special : finite));
}

template <typename Bits, typename Float> LERAC_INLINE Bits half_of_float(Float x) {
  const auto bits = reinterpret<Bits>(x);
  const Bits sign = (bits >> 16) & 0x8000;
  const Bits magnitude = bits & 0x7fffffff;
  // Normal results: rebias the exponent by -112 and round off 13 bits; a carry may run into the exponent, as it should.
  const Bits normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Subnormal results: added to 0.5 the number is rounded at 2^-24, the last bit of a half, by the addition itself.
  const Bits subnormal = reinterpret<Bits>(reinterpret<Float>(magnitude) + 0.5f) - 0x3f000000;
  Bits half = magnitude < 0x38800000 ? subnormal : normal; // below 2^-14
  half = magnitude >= 0x47800000 ? Bits{} + 0x7c00 : half; // 2^16 and above; smaller ones overflow by their carry
  half = magnitude > 0x7f800000 ? Bits{} + 0x7e00 : half;
  return sign | half;
}

// ---- elements ----

struct BFloat16 {
  uint16_t bits;
};

struct Half {
  uint16_t bits;
};

template <typename Element> inline constexpr bool is_bfloat16 = false;
template <> inline constexpr bool is_bfloat16<BFloat16> = true;

LERAC_INLINE float load(float x) { return x; }
LERAC_INLINE double load(double x) { return x; }
LERAC_INLINE void store(float& to, float x) { to = x; }
LERAC_INLINE void store(double& to, double x) { to = x; }

LERAC_INLINE float load(BFloat16 x) { return float_of_bfloat16<float>(uint32_t(x.bits)); }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// One instruction each, where the arithmetic above takes about ten.
LERAC_INLINE float load(Half x) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
}
LERAC_INLINE void store(BFloat16& to, float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }
LERAC_INLINE void store(Half& to, float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }
#else
LERAC_INLINE float load(Half x) { return float_of_half<float>(uint32_t(x.bits)); }
LERAC_INLINE void store(BFloat16& to, float x) { to.bits = uint16_t(bfloat16_of_float<uint32_t>(x)); }
LERAC_INLINE void store(Half& to, float x) { to.bits = uint16_t(half_of_float<uint32_t>(x)); }
#endif

// The type in which an element of a storage type is computed.
template <typename Element> struct ComputeType {
  using type = float;
};
template <> struct ComputeType<double> {
  using type = double;
};
template <typename Element> using Compute = typename ComputeType<Element>::type;

} // namespace lerac_fast::math
