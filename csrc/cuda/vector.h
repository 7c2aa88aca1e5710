// Several consecutive elements at once, in memory accesses of up to 16 bytes.
#pragma once

#include <cstdint>

#include "math/float16.h"

namespace lerac_fast::cuda {

inline constexpr int kAccessBytes = 16;

template <typename Element, int kCount> struct alignas(sizeof(Element) * kCount) Vector {
  Element elements[kCount];
};

// As many of kCount elements as one access takes.
template <typename Element, int kCount>
inline constexpr int kPerAccess = kCount * sizeof(Element) > kAccessBytes ? kAccessBytes / sizeof(Element) : kCount;

// In the type of the arithmetic. `from` is aligned to the access: to 16 bytes, or to kCount elements if they are fewer.
template <int kCount, typename Element, typename T> LERAC_INLINE void load(const Element* from, T (&to)[kCount]) {
  constexpr int kStep = kPerAccess<Element, kCount>;
#pragma unroll
  for (int i = 0; i < kCount; i += kStep) {
    const auto vector = *reinterpret_cast<const Vector<Element, kStep>*>(from + i);
#pragma unroll
    for (int j = 0; j < kStep; ++j) to[i + j] = math::load(vector.elements[j]);
  }
}

template <int kCount, typename Element, typename T> LERAC_INLINE void store(Element* to, const T (&from)[kCount]) {
  constexpr int kStep = kPerAccess<Element, kCount>;
#pragma unroll
  for (int i = 0; i < kCount; i += kStep) {
    Vector<Element, kStep> vector;
#pragma unroll
    for (int j = 0; j < kStep; ++j) math::store(vector.elements[j], from[i + j]);
    *reinterpret_cast<Vector<Element, kStep>*>(to + i) = vector;
  }
}

LERAC_INLINE bool is_aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(kAccessBytes) == 0;
}

} // namespace lerac_fast::cuda
