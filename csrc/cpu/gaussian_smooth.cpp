// gaussian_smooth on the CPU: shares the planes of a tensor among threads.
#include <ATen/ops/empty_like.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>

#include "cpu/capability.h"
#include "cpu/gaussian_smooth_kernels.h"
#include "cpu/parallel.h"
#include "ops/gaussian_smooth.h"
#include "ops/sweeps.h"

namespace lerac_fast::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;
using ops::SmoothElement;

// Rows from this length on are smoothed one at a time; planes of shorter ones several at once, about kBlock elements.
constexpr int64_t kLongRow = 128;
constexpr int64_t kBlock = 4096;
// Larger planes are smoothed by rows, however short, as the scratch memory for several rows at once grows with them.
constexpr int64_t kLargestBlock = 1 << 18;
// Rows that need nothing of their columns are cut to pieces of this length, which stay in the first-level cache.
constexpr int64_t kPiece = 1024;
// Fewer elements than this are not worth waking another thread for.
constexpr int64_t kElementsPerThread = 16384;

const GaussianSmoothKernel& kernel_for(at::ScalarType type) {
  const auto& kernels = LERAC_FAST_CHOOSE(gaussian_smooth_kernels);
  switch (type) {
  case at::kFloat:
    return kernels.of[size_t(SmoothElement::kFloat)];
  case at::kDouble:
    return kernels.of[size_t(SmoothElement::kDouble)];
  case at::kBFloat16:
    return kernels.of[size_t(SmoothElement::kBFloat16)];
  case at::kHalf:
    return kernels.of[size_t(SmoothElement::kHalf)];
  default:
    TORCH_CHECK_VALUE(false, "gaussian_smooth: x is of ", type,
                      "; on the CPU it may be float32, float64, bfloat16 or float16");
  }
}

// One thread's scratch memory.
template <typename Work> void with_scratch(int64_t elements, int64_t element_size, const Work& work) {
  void* scratch = c10::alloc_cpu(static_cast<size_t>(elements * element_size)); // aligned to cache lines
  const std::unique_ptr<void, decltype(&c10::free_cpu)> owner(scratch, &c10::free_cpu);
  work(scratch);
}

void run(const ops::Sweep& sweep, const Tensor& x, const Tensor& y, const Gaussian& gaussian) {
  const auto kernel = kernel_for(x.scalar_type());
  const auto* source = static_cast<const char*>(x.const_data_ptr());
  auto* target = static_cast<char*>(y.mutable_data_ptr());
  const bool in_place = source == target;
  const int64_t item = x.element_size(), computed = std::max<int64_t>(item, sizeof(float));
  const Plane& plane = sweep.plane;
  const int64_t plane_size = plane.rows * plane.row_size();

  if (plane.row_size() < kLongRow && !fills_vectors(plane.inner) && plane_size <= kLargestBlock) {
    const int64_t at_once = std::max<int64_t>(1, kBlock / plane_size);
    const int64_t blocks = (sweep.planes + at_once - 1) / at_once;
    const int64_t grain = std::max<int64_t>(1, kElementsPerThread / (at_once * plane_size));
    parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * at_once, count = std::min(end * at_once, sweep.planes) - first;
      const int64_t offset = first * plane_size * item;
      with_scratch(scratch_of_planes(plane, gaussian, std::min(at_once, count)), computed, [&](void* scratch) {
        kernel.planes(source + offset, target + offset, plane, gaussian, count, at_once, scratch);
      });
    });
    return;
  }
  // A unit is a row, or in place, where the next rows must not be overwritten before they are read, a whole plane.
  // Rows that need nothing of their columns are cut to pieces.
  const int64_t pieces = plane.across_columns ? 1 : (plane.inner + kPiece - 1) / kPiece;
  const int64_t rows = in_place ? plane.rows : 1;
  const int64_t units_per_plane = plane.rows / rows;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / (rows * plane.row_size() / pieces));
  parallel_for(0, sweep.planes * pieces * units_per_plane, grain, [&](int64_t begin, int64_t end) {
    Plane piece = plane;
    if (pieces > 1) piece.inner = kPiece;
    with_scratch(scratch_of_rows(piece, gaussian), computed, [&](void* scratch) {
      while (begin < end) {
        const int64_t strip = begin / units_per_plane, row = begin % units_per_plane * rows;
        const int64_t last = std::min(end - begin + begin % units_per_plane, units_per_plane);
        const int64_t start = strip % pieces * kPiece;
        piece.inner = pieces > 1 ? std::min(kPiece, plane.inner - start) : plane.inner;
        const int64_t offset = (strip / pieces * plane_size + start) * item;
        kernel.rows(source + offset, target + offset, piece, gaussian, row, last * rows, scratch);
        begin = (strip * units_per_plane) + last;
      }
    });
  });
}

// Writes to `y`, which has the layout of `x` and is another tensor or `x` itself.
void smooth_dense(const Tensor& x, const Tensor& y, const Gaussian& gaussian, IntArrayRef dims) {
  const auto sweeps = ops::sweeps_over(x, dims);
  if (sweeps.size() > 1 && x.element_size() < 4) { // what lies between two sweeps is not to be rounded to 16 bits
    const Tensor wide = x.to(at::kFloat);
    smooth_dense(wide, wide, gaussian, dims);
    y.copy_(wide);
    return;
  }
  const Tensor* from = &x;
  for (const ops::Sweep& sweep : sweeps) {
    run(sweep, *from, y, gaussian);
    from = &y;
  }
}

Tensor smooth(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  ops::check_gaussian_smooth(x, sigma, kernel_size, dims);
  kernel_for(x.scalar_type());
  const auto weights = ops::gaussian_weights(x, sigma, kernel_size, dims);
  if (x.numel() == 0 || weights.size() == 1) return x.clone();
  const Gaussian gaussian{weights.data(), int64_t(weights.size()) - 1};
  if (!x.is_non_overlapping_and_dense()) {
    const Tensor y = x.clone();
    smooth_dense(y, y, gaussian, dims);
    return y;
  }
  Tensor y = at::empty_like(x);
  smooth_dense(x, y, gaussian, dims);
  return y;
}

Tensor& smooth_in_place(Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  ops::check_gaussian_smooth(x, sigma, kernel_size, dims);
  kernel_for(x.scalar_type());
  const auto weights = ops::gaussian_weights(x, sigma, kernel_size, dims);
  if (x.numel() == 0 || weights.size() == 1) return x;
  const Gaussian gaussian{weights.data(), int64_t(weights.size()) - 1};
  if (x.is_non_overlapping_and_dense())
    smooth_dense(x, x, gaussian, dims);
  else
    x.copy_(smooth(x, sigma, kernel_size, dims));
  return x;
}

TORCH_LIBRARY_IMPL(lerac_fast, CPU, m) {
  m.impl("gaussian_smooth", smooth);
  m.impl("gaussian_smooth_", smooth_in_place);
}

} // namespace
} // namespace lerac_fast::cpu
