// The tensors of tempered_cross_entropy as its backends' kernels take them.
#pragma once

#include <ATen/ATen.h>

#include "ops/tempered_rows.h"

namespace lerac_fast::ops {

inline at::Tensor dense(const at::Tensor& x, at::ScalarType type) {
  return (x.scalar_type() == type ? x : x.to(type)).contiguous();
}

inline at::Tensor classes_last(const at::Tensor& logits) { return logits.dim() <= 2 ? logits : logits.movedim(1, -1); }

// Calls `work` with the kernel for the dtype of the logits, of a backend's `kernels` on a device ("the CPU", "a GPU").
template <typename Kernels, typename Work>
void with_kernel(const Kernels& kernels, at::ScalarType type, const char* device, const Work& work) {
  switch (type) {
  case at::kFloat:
    return work(kernels.of_float);
  case at::kDouble:
    return work(kernels.of_double);
  case at::kBFloat16:
    return work(kernels.of_bfloat16);
  case at::kHalf:
    return work(kernels.of_half);
  default:
    TORCH_CHECK_VALUE(false, "tempered_cross_entropy: logits are of ", type, "; on ", device,
                      " they may be float32, float64, bfloat16 or float16");
  }
}

// The type in which a kernel computes.
template <typename Kernel> struct ArithmeticOf;
template <template <typename> typename Kernel, typename T> struct ArithmeticOf<Kernel<T>> {
  using type = T;
};

// Dense arrays in the type of the arithmetic; what has to be copied for that is kept here. The sum of the class weights
// is left to the backend.
template <typename T> struct TemperedOperands {
  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;

  TemperedOperands(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& sigma,
                   const std::optional<at::Tensor>& weight, double label_smoothing, int64_t ignore_index)
      : logits(classes_last(logits).contiguous()), targets(targets.contiguous()), sigma(dense(sigma, kType)),
        weight(weight ? dense(*weight, kType) : at::Tensor()) {
    rows = {this->logits.const_data_ptr(),
            this->logits.size(-1),
            this->targets.template const_data_ptr<int64_t>(),
            this->sigma.template const_data_ptr<T>(),
            weight ? this->weight.template const_data_ptr<T>() : nullptr,
            nullptr,
            T(label_smoothing),
            ignore_index};
  }

  int64_t count() const { return targets.numel(); }

  at::Tensor logits, targets, sigma, weight;
  TemperedRows<T> rows;
};

// Where the backward pass writes the gradient of the logits, and the same as dense rows of classes: finish() copies
// them there if they are not the same memory.
struct GradientOfLogits {
  explicit GradientOfLogits(const at::Tensor& logits)
      : result(at::empty_like(logits)), view(classes_last(result)),
        rows(view.is_contiguous() ? view : at::empty(view.sizes(), logits.options())) {}

  at::Tensor finish() const {
    if (!rows.is_same(view)) view.copy_(rows);
    return result;
  }

  at::Tensor result, view, rows;
};

} // namespace lerac_fast::ops
