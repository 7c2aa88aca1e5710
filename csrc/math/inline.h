// LERAC_INLINE marks every function of csrc/math. The same source is compiled several times, once per CPU instruction
// set and once for CUDA, so nothing in it may be emitted as a linkable symbol: the linker would keep one copy, perhaps
// the AVX-512 one, for all callers.
#pragma once

#if defined(__CUDACC__)
#define LERAC_INLINE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define LERAC_INLINE inline __attribute__((always_inline))
#else
#define LERAC_INLINE inline
#endif
