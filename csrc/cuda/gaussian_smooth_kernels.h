// The passes of gaussian_smooth over a GPU's memory. What is read and what is written never overlap: threads read what
// their neighbours would overwrite.
#pragma once

#include <cstdint>

#include "ops/plane.h"

namespace lerac_fast::cuda {

using ops::SmoothElement;

// Smooths by the nearest neighbours, with the weights w(0) and w(1), across rows and along columns in one pass.
// `stream` is a cudaStream_t.
void smooth_by_nearest(SmoothElement type, const void* source, void* target, const ops::Sweep& sweep, double weight0,
                       double weight1, void* stream);

// Lines of `length` elements, `inner` of them interleaved, in `outer` blocks one behind the other.
struct Lines {
  int64_t outer, length, inner;
};

// w(0..radius). Up to kRadius they are given to the kernel itself, more in memory of the GPU, in the arithmetic's type.
struct Window {
  static constexpr int64_t kRadius = 64;
  const double* weights;
  const void* weights_on_device; // or nullptr, up to kRadius
  int64_t radius;
};

// Smooths along lines with any window. `from` and `to` are the same, or one of them is the type of the arithmetic.
void smooth_lines(SmoothElement from, const void* source, SmoothElement to, void* target, const Lines& lines,
                  const Window& window, void* stream);

} // namespace lerac_fast::cuda
