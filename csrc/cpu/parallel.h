// Threads that compute as the one that calls them.
#pragma once

#include <ATen/Parallel.h>
#include <cstdint>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace lerac_fast::cpu {

// The calling thread's floating-point mode: above all, whether it takes subnormal numbers for zero.
inline uint64_t float_mode() {
#if defined(__SSE2__)
  return _mm_getcsr();
#elif defined(__aarch64__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
#else
  return 0;
#endif
}

inline void set_float_mode([[maybe_unused]] uint64_t mode) {
#if defined(__SSE2__)
  _mm_setcsr(static_cast<unsigned int>(mode));
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#endif
}

// at::parallel_for, in the floating-point mode of the caller: torch.set_flush_denormal sets that of its own thread
// only, and results must not depend on which thread computes them.
template <typename F> void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  const uint64_t callers = float_mode();
  at::parallel_for(begin, end, grain, [&](int64_t first, int64_t last) {
    struct CallersMode {
      const uint64_t before = float_mode();
      explicit CallersMode(uint64_t mode) { set_float_mode(mode); }
      ~CallersMode() { set_float_mode(before); }
    } mode(callers);
    f(first, last);
  });
}

} // namespace lerac_fast::cpu
