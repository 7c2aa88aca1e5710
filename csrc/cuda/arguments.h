// Kernel arguments of variable length: they travel with the launch, so that nothing is copied to the device before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>

#include "math/inline.h"

namespace lerac_fast::cuda {

// What a launch can carry: 32 KB from CUDA 12.1 on (sm_70 and newer), if the driver knows it, too; before that 4 KB.
#if CUDART_VERSION >= 12010
inline constexpr size_t kArgumentBytes = 32764;
inline constexpr int kArgumentsNeedDriver = 12010;
#else
inline constexpr size_t kArgumentBytes = 4096;
inline constexpr int kArgumentsNeedDriver = 0;
#endif
inline constexpr size_t kSmallArgumentBytes = 4096; // all of them are sent at each launch

// Three arrays behind one another that fit into kBytes beside kOthers bytes of arguments: First and Second have an
// element for each row, Third has any number.
template <typename First, typename Second, typename Third, size_t kBytes, size_t kOthers> struct Arrays {
  static_assert(alignof(First) <= 8 && alignof(Second) <= 8 && alignof(Third) <= 8);
  static_assert(sizeof(First) % 8 == 0 && sizeof(Second) % 8 == 0);
  static constexpr size_t kSize = (kBytes - kOthers) / 8 * 8;

  static constexpr bool fit(size_t rows, size_t thirds) {
    return (sizeof(First) + sizeof(Second)) * rows + sizeof(Third) * thirds <= kSize;
  }
  LERAC_INLINE First* first() { return reinterpret_cast<First*>(bytes); }
  LERAC_INLINE Second* second(uint32_t rows) { return reinterpret_cast<Second*>(first() + rows); }
  LERAC_INLINE Third* third(uint32_t rows) { return reinterpret_cast<Third*>(second(rows) + rows); }
  LERAC_INLINE const First* first() const { return reinterpret_cast<const First*>(bytes); }
  LERAC_INLINE const Second* second(uint32_t rows) const { return reinterpret_cast<const Second*>(first() + rows); }
  LERAC_INLINE const Third* third(uint32_t rows) const { return reinterpret_cast<const Third*>(second(rows) + rows); }

  alignas(8) unsigned char bytes[kSize];
};

} // namespace lerac_fast::cuda
