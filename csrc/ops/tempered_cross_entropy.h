// What the backends of tempered_cross_entropy share.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace lerac_fast::ops {

// The logits' axis of classes: 0 of [C], 1 of [N, C] and [N, C, d1, ...].
inline int64_t class_axis(const at::Tensor& logits) { return logits.dim() == 1 ? 0 : 1; }

enum class Reduction { kNone, kMean, kSum };

// Throws ValueError where shapes, dtypes, devices and options make no sense. Reads no element, so it serves tensors
// without data, too. `sigma` has the shape of `targets`.
Reduction check_tempered_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& sigma,
                                       const std::optional<at::Tensor>& weight, c10::string_view reduction,
                                       double label_smoothing);

// The same for the backward pass. What was saved for it need not be what comes back: hooks on saved tensors may move
// and change them.
void check_tempered_cross_entropy_backward(const at::Tensor& gradient, const at::Tensor& logits,
                                           const at::Tensor& targets, const at::Tensor& sigma,
                                           const std::optional<at::Tensor>& weight, const at::Tensor& statistics,
                                           double label_smoothing);

// The type of the arithmetic, in which statistics are kept and losses are summed.
inline at::ScalarType compute_type(const at::Tensor& logits) {
  return logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

} // namespace lerac_fast::ops
