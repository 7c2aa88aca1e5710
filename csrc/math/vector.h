// Vectors of numbers, for loops that must keep some in registers from one turn to the next, which compilers do not
// arrange by themselves. Arithmetic on them is written as on numbers, so that the formulas of csrc/math serve both.
#pragma once

#include <cstdint>
#include <cstring>

#include "math/float16.h"
#include "math/inline.h"

namespace lerac_fast::math {

#if defined(__AVX512F__)
inline constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kRegisterBytes = 32;
#else
inline constexpr int kRegisterBytes = 16;
#endif

template <typename T, int bytes = kRegisterBytes> struct VectorType {
  typedef T type __attribute__((vector_size(bytes)));
};
template <typename T, int bytes = kRegisterBytes> using Vector = typename VectorType<T, bytes>::type;

// Consecutive elements in the type of their arithmetic: one of them (V is a number), or as many as their bits fill a
// vector. 16-bit elements take two vectors, one for those at even and one for those at odd places, which needs no
// shuffling.
template <typename V, typename Element> struct Pack {
  static constexpr bool kVector = sizeof(V) > sizeof(Compute<Element>);
  static constexpr int kParts = kVector && sizeof(Element) == 2 ? 2 : 1;
  static constexpr int64_t kElements = kParts * int64_t(sizeof(V) / sizeof(Compute<Element>));
  V parts[kParts];
};

// `from` and `to` need no alignment.
template <typename V, typename Element> LERAC_INLINE void load(const Element* from, Pack<V, Element>& to) {
  using Bits = Vector<uint32_t, sizeof(V) < 16 ? 16 : sizeof(V)>;
  if constexpr (!Pack<V, Element>::kVector) {
    to.parts[0] = load(*from);
  } else if constexpr (sizeof(Element) > 2) {
    memcpy(&to.parts[0], from, sizeof(V));
  } else {
    Bits bits;
    memcpy(&bits, from, sizeof(bits));
    if constexpr (is_bfloat16<Element>) {
      to.parts[0] = float_of_bfloat16<V>(bits);
      to.parts[1] = reinterpret<V>(bits & 0xffff0000);
    } else {
      to.parts[0] = float_of_half<V>(bits & 0xffff);
      to.parts[1] = float_of_half<V>(bits >> 16);
    }
  }
}

template <typename V, typename Element> LERAC_INLINE void store(Element* to, const Pack<V, Element>& from) {
  using Bits = Vector<uint32_t, sizeof(V) < 16 ? 16 : sizeof(V)>;
  if constexpr (!Pack<V, Element>::kVector) {
    store(*to, from.parts[0]);
  } else if constexpr (sizeof(Element) > 2) {
    memcpy(to, &from.parts[0], sizeof(V));
  } else {
    Bits even, odd;
    if constexpr (is_bfloat16<Element>) {
      even = bfloat16_of_float<Bits>(from.parts[0]);
      odd = bfloat16_of_float<Bits>(from.parts[1]);
    } else {
      even = half_of_float<Bits>(from.parts[0]);
      odd = half_of_float<Bits>(from.parts[1]);
    }
    const Bits bits = even | odd << 16;
    memcpy(to, &bits, sizeof(bits));
  }
}

} // namespace lerac_fast::math
