// Several consecutive elements at once, in memory accesses of up to 16 bytes.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

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

template <int kCount, typename Element, typename T>
__device__ __forceinline__ void store(Element* to, const T (&from)[kCount]) {
  constexpr int kStep = kPerAccess<Element, kCount>;
#pragma unroll
  for (int i = 0; i < kCount; i += kStep) {
    Vector<Element, kStep> vector;
#pragma unroll
    for (int j = 0; j < kStep; ++j) math::store(vector.elements[j], from[i + j]);
    if constexpr (sizeof(vector) == sizeof(uint4)) // said so, as the compiler splits some of them
      __stwb(reinterpret_cast<uint4*>(to + i), math::reinterpret<uint4>(vector));
    else
      *reinterpret_cast<Vector<Element, kStep>*>(to + i) = vector;
  }
}

// Elements kStride apart, in an access for each, of any alignment.
template <int kStride, int kCount, typename Element, typename T>
LERAC_INLINE void load_apart(const Element* from, T (&to)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = math::load(from[i * kStride]);
}

template <int kStride, int kCount, typename Element, typename T>
LERAC_INLINE void store_apart(Element* to, const T (&from)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) math::store(to[i * kStride], from[i]);
}

LERAC_INLINE bool is_aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(kAccessBytes) == 0;
}

} // namespace lerac_fast::cuda
