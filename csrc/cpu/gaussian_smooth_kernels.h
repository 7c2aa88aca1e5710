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

// Neighbours on either side along an axis: farther ones would all be zero. At least one, which comes with the centre.
inline int64_t radius_along(int64_t length, const Gaussian& gaussian) {
  const int64_t neighbours = length > 2 ? length - 1 : 1;
  return gaussian.radius < neighbours ? gaussian.radius : neighbours;
}

// Rows that an output row needs.
inline int64_t window_of(const Plane& plane, const Gaussian& gaussian) {
  const int64_t window = plane.across_rows ? 2 * radius_along(plane.rows, gaussian) + 1 : 1;
  return window < plane.rows ? window : plane.rows;
}

// A row that needs no other is smoothed a block at a time, of at least kRowBlock elements, and at least as many as the
// border that it needs on either side.
constexpr int64_t kRowBlock = 4096;
inline bool goes_in_blocks(const Plane& plane) {
  return plane.across_columns && (plane.rows == 1 || !plane.across_rows);
}
inline int64_t border_of_block(const Plane& plane, const Gaussian& gaussian) {
  return radius_along(plane.columns, gaussian) * plane.inner;
}
inline int64_t block_of(const Plane& plane, const Gaussian& gaussian) {
  const int64_t border = border_of_block(plane, gaussian);
  const int64_t block = border < kRowBlock ? kRowBlock : border;
  return block < plane.row_size() ? block : plane.row_size();
}

// Rows are smoothed by pixels, whose eight neighbours they need.
inline bool goes_by_pixels(const Plane& plane, const Gaussian& gaussian) {
  return !goes_in_blocks(plane) && gaussian.radius == 1 && plane.across_rows && plane.across_columns &&
         fills_vectors(plane.inner);
}

inline int64_t scratch_of_rows(const Plane& plane, const Gaussian& gaussian) {
  const int64_t rows = goes_in_blocks(plane) ? 2 * whole_lines(block_of(plane, gaussian)) +
                                                   whole_lines(2 * border_of_block(plane, gaussian))
                                             : (window_of(plane, gaussian) + 2) * whole_lines(plane.row_size());
  return rows + gaussian.radius + 1;
}
inline int64_t scratch_of_planes(const Plane& plane, const Gaussian& gaussian, int64_t at_once) {
  return 4 * whole_lines(at_once * plane.rows * plane.row_size()) + gaussian.radius + 1;
}

struct GaussianSmoothKernels {
  GaussianSmoothKernel of[4]; // in the order of ops::SmoothElement
};

// One definition per instruction set that the build compiled; see CMakeLists.txt.
extern const GaussianSmoothKernels gaussian_smooth_kernels_baseline;
extern const GaussianSmoothKernels gaussian_smooth_kernels_avx2;
extern const GaussianSmoothKernels gaussian_smooth_kernels_avx512;

} // namespace lerac_fast::cpu
