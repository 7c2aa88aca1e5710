// gaussian_smooth on a GPU: one pass for each sweep over the tensor, or for each axis where the window is wider than
// the nearest neighbours.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cmath>
#include <vector>

#include "cuda/current.h"
#include "cuda/gaussian_smooth_kernels.h"
#include "ops/gaussian_smooth.h"
#include "ops/sweeps.h"

namespace lerac_fast::cuda {
namespace {

using at::IntArrayRef;
using at::Tensor;

SmoothElement element_of(at::ScalarType type) {
  switch (type) {
  case at::kFloat:
    return SmoothElement::kFloat;
  case at::kDouble:
    return SmoothElement::kDouble;
  case at::kBFloat16:
    return SmoothElement::kBFloat16;
  case at::kHalf:
    return SmoothElement::kHalf;
  default:
    TORCH_CHECK_VALUE(false, "gaussian_smooth: x is of ", type,
                      "; on a GPU it may be float32, float64, bfloat16 or float16");
  }
}

at::ScalarType compute_type(const Tensor& x) { return x.element_size() < 4 ? at::kFloat : x.scalar_type(); }

void check(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  ops::check_gaussian_smooth(x, sigma, kernel_size, dims);
  element_of(x.scalar_type());
}

// w(0) exp(c i^2), made on the device: a CUDA graph would copy from the host's memory at every replay. c comes from the
// middle of the window: the nearest weight of a wide one is w(0) in almost all digits, and the last may be subnormal.
Tensor weights_on_device(const std::vector<double>& weights, const Tensor& x) {
  Tensor values = at::arange(int64_t(weights.size()), at::TensorOptions().dtype(at::kDouble).device(x.device()));
  const size_t middle = weights.size() / 2;
  const double c = std::log(weights[middle] / weights[0]) / (double(middle) * double(middle));
  values.square_().mul_(c).exp_().mul_(weights[0]);
  return values.to(compute_type(x));
}

// A sweep along one axis after the other.
std::vector<Lines> lines_of(const std::vector<ops::Sweep>& sweeps) {
  std::vector<Lines> lines;
  for (const auto& [planes, plane] : sweeps) {
    if (plane.across_columns) lines.push_back({planes * plane.rows, plane.columns, plane.inner});
    if (plane.across_rows) lines.push_back({planes, plane.rows, plane.row_size()});
  }
  return lines;
}

// Calls `pass(from, to, i)` for i = 0 .. count - 1: from `x` over tensors of the arithmetic's type to the last one,
// which is returned and has the type and layout of `x`. So 16-bit numbers are rounded once.
template <typename Pass> Tensor in_passes(const Tensor& x, size_t count, const Pass& pass) {
  Tensor from = x;
  for (size_t i = 0; i < count; ++i) {
    const Tensor to = at::empty_like(x, x.options().dtype(i + 1 < count ? compute_type(x) : x.scalar_type()));
    pass(from, to, i);
    from = to;
  }
  return from;
}

// `x` is dense and does not overlap.
Tensor smooth_dense(const Tensor& x, const std::vector<double>& weights, IntArrayRef dims) {
  const OnDevice current(x.device());
  const auto sweeps = ops::sweeps_over(x, dims);
  if (weights.size() == 2 && (sweeps.size() == 1 || x.scalar_type() == compute_type(x)))
    return in_passes(x, sweeps.size(), [&](const Tensor& from, const Tensor& to, size_t i) {
      smooth_by_nearest(element_of(x.scalar_type()), from.const_data_ptr(), to.mutable_data_ptr(), sweeps[i],
                        weights[0], weights[1], current.stream());
    });

  const auto lines = lines_of(sweeps);
  const auto radius = int64_t(weights.size()) - 1;
  const Tensor far = radius > Window::kRadius ? weights_on_device(weights, x) : Tensor();
  const Window window{weights.data(), far.defined() ? far.const_data_ptr() : nullptr, radius};
  return in_passes(x, lines.size(), [&](const Tensor& from, const Tensor& to, size_t i) {
    smooth_lines(element_of(from.scalar_type()), from.const_data_ptr(), element_of(to.scalar_type()),
                 to.mutable_data_ptr(), lines[i], window, current.stream());
  });
}

Tensor smooth(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  check(x, sigma, kernel_size, dims);
  const auto weights = ops::gaussian_weights(x, sigma, kernel_size, dims);
  if (x.numel() == 0 || weights.size() == 1) return x.clone();
  return smooth_dense(x.is_non_overlapping_and_dense() ? x : x.clone(), weights, dims);
}

// Into another tensor first: threads read what their neighbours would overwrite.
Tensor& smooth_in_place(Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  check(x, sigma, kernel_size, dims);
  const auto weights = ops::gaussian_weights(x, sigma, kernel_size, dims);
  if (x.numel() == 0 || weights.size() == 1) return x;
  return x.copy_(smooth_dense(x.is_non_overlapping_and_dense() ? x : x.clone(), weights, dims));
}

TORCH_LIBRARY_IMPL(lerac_fast, LERAC_FAST_CUDA_KEY, m) {
  m.impl("gaussian_smooth", smooth);
  m.impl("gaussian_smooth_", smooth_in_place);
}

} // namespace
} // namespace lerac_fast::cuda
