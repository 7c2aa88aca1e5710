// The inner loops of gaussian_smooth, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "ops/plane.h"

namespace lerac_fast::cpu {

using ops::Plane;

// w(0..radius) of a Gaussian that is wider than one element: radius >= 1.
struct Gaussian {
  const double* weights;
  int64_t radius;
};

// For one storage type. `source` and `target` are the same, or do not overlap. `scratch` is one thread's memory, of as
// many elements as scratch_of_rows() or scratch_of_planes() says, as wide as the arithmetic is (float or double).
struct GaussianSmoothKernel {
  // Rows [begin, end) of one plane, a row at a time. In place, only all of its rows may be asked for.
  void (*rows)(const void* source, void* target, const Plane&, const Gaussian&, int64_t begin, int64_t end,
               void* scratch);
  // `count` planes without gaps, `at_once` of them as one array: for short rows, which alone would not fill vectors.
  void (*planes)(const void* source, void* target, const Plane&, const Gaussian&, int64_t count, int64_t at_once,
                 void* scratch);
};

// Whether rows of `inner` elements a pixel are worth vectors, whatever the instruction set.
inline bool fills_vectors(int64_t inner) { return inner >= 16; }

// Arrays in scratch memory begin at cache lines: vectors that straddle two take twice as long.
inline int64_t whole_lines(int64_t elements) { return (elements + 15) / 16 * 16; }

// Rows that an output row needs.
inline int64_t window_of(const Plane& plane, const Gaussian& gaussian) {
  return plane.across_rows ? 2 * gaussian.radius + 1 : 1;
}

inline int64_t scratch_of_rows(const Plane& plane, const Gaussian& gaussian) {
  return (window_of(plane, gaussian) + 2) * whole_lines(plane.row_size()) + gaussian.radius + 1;
}
inline int64_t scratch_of_planes(const Plane& plane, const Gaussian& gaussian, int64_t at_once) {
  return 4 * whole_lines(at_once * plane.rows * plane.row_size()) + gaussian.radius + 1;
}

// In the order of GaussianSmoothKernels.
enum class SmoothElement : uint8_t { kFloat, kDouble, kBFloat16, kHalf };

struct GaussianSmoothKernels {
  GaussianSmoothKernel of[4];
};

// One definition per instruction set that the build compiled; see CMakeLists.txt.
extern const GaussianSmoothKernels gaussian_smooth_kernels_baseline;
extern const GaussianSmoothKernels gaussian_smooth_kernels_avx2;
extern const GaussianSmoothKernels gaussian_smooth_kernels_avx512;

} // namespace lerac_fast::cpu
