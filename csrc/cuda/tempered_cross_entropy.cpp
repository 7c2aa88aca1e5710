// tempered_cross_entropy on a GPU: one launch for each direction, and one for the reduction. The host waits for
// nothing.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "cuda/current.h"
#include "cuda/tempered_cross_entropy_kernels.h"
#include "ops/tempered_cross_entropy.h"
#include "ops/tempered_operands.h"

namespace lerac_fast::cuda {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Calls `work` with the kernel for the dtype of the logits.
template <typename Work> void with_kernel(at::ScalarType type, const Work& work) {
  ops::with_kernel(tempered_cross_entropy_kernels, type, "a GPU", work);
}

template <typename T> struct Operands : ops::TemperedOperands<T> {
  Operands(const Tensor& logits, const Tensor& targets, const Tensor& sigma, const OptionalTensor& weight,
           double label_smoothing, int64_t ignore_index)
      : ops::TemperedOperands<T>(logits, targets, sigma, weight, label_smoothing, ignore_index) {
    if (!weight || label_smoothing == 0) return;
    sum_of_weights = this->weight.sum();
    this->rows.sum_of_class_weights = sum_of_weights.template const_data_ptr<T>();
  }

  Tensor sum_of_weights;
};

// Of more rows than one multiprocessor should reduce. `weights` is undefined for a sum.
Tensor reduce(const Tensor& losses, const Tensor& weights, const Tensor& statistics) {
  const Tensor total = losses.sum(at::kDouble);
  if (!weights.defined()) return total.to(losses.scalar_type());
  const Tensor weight = weights.sum(at::kDouble);
  Tensor share = statistics.select(1, 3);
  share.copy_(at::where(share == 0, share, share / weight));
  return (total / weight).to(losses.scalar_type());
}

std::tuple<Tensor, Tensor> forward(const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                                   const OptionalTensor& weight, c10::string_view reduction, double label_smoothing,
                                   int64_t ignore_index) {
  const auto how = ops::check_tempered_cross_entropy(logits, targets, sigma, weight, reduction, label_smoothing);
  const OnDevice current(logits.device());
  const auto options = logits.options().dtype(ops::compute_type(logits)).memory_format(at::MemoryFormat::Contiguous);
  const bool mean = how == ops::Reduction::kMean;
  const Tensor losses = at::empty(targets.sizes(), options);
  const Tensor weights = mean ? at::empty(targets.sizes(), options) : Tensor();
  const Tensor statistics = at::empty({targets.numel(), ops::kStatistics}, options);
  Tensor result = losses;
  with_kernel(logits.scalar_type(), [&](const auto& kernel) {
    using T = typename ops::ArithmeticOf<std::decay_t<decltype(kernel)>>::type;
    const Operands<T> operands(logits, targets, sigma, weight, label_smoothing, ignore_index);
    T* loss = losses.mutable_data_ptr<T>();
    T* weight_of_row = mean ? weights.mutable_data_ptr<T>() : nullptr;
    auto* statistic = reinterpret_cast<TemperedStatistics<T>*>(statistics.mutable_data_ptr<T>());
    kernel.forward(operands.rows, operands.count(), loss, weight_of_row, statistic, current.stream());
    if (how == ops::Reduction::kNone) return;
    if (operands.count() > kRowsToFinish) {
      result = reduce(losses, weights, statistics);
      return;
    }
    result = at::empty({}, options);
    kernel.finish(loss, weight_of_row, operands.count(), statistic, result.mutable_data_ptr<T>(), current.stream());
  });
  return {ops::dense(result, at::promote_types(logits.scalar_type(), sigma.scalar_type())), statistics};
}

std::tuple<Tensor, Tensor> backward(const Tensor& gradient, const Tensor& logits, const Tensor& targets,
                                    const Tensor& sigma, const OptionalTensor& weight, const Tensor& statistics,
                                    double label_smoothing, int64_t ignore_index) {
  ops::check_tempered_cross_entropy_backward(gradient, logits, targets, sigma, weight, statistics, label_smoothing);
  const OnDevice current(logits.device());
  const ops::GradientOfLogits by_logits(logits);
  const Tensor by_sigma = at::empty(targets.sizes(), statistics.options());
  with_kernel(logits.scalar_type(), [&](const auto& kernel) {
    using T = typename ops::ArithmeticOf<std::decay_t<decltype(kernel)>>::type;
    const Operands<T> operands(logits, targets, sigma, weight, label_smoothing, ignore_index);
    const Tensor saved = statistics.contiguous();
    const auto* statistic = reinterpret_cast<const TemperedStatistics<T>*>(saved.const_data_ptr<T>());
    const Tensor upstream = ops::dense(gradient, Operands<T>::kType);
    const int64_t stride = upstream.numel() == 1 ? 0 : 1; // one for all rows, or one for each
    kernel.backward(operands.rows, operands.count(), statistic, upstream.const_data_ptr<T>(), stride,
                    by_sigma.mutable_data_ptr<T>(), by_logits.rows.mutable_data_ptr(), current.stream());
  });
  return {by_logits.finish(), ops::dense(by_sigma, sigma.scalar_type())};
}

TORCH_LIBRARY_IMPL(lerac_fast, LERAC_FAST_CUDA_KEY, m) {
  m.impl("_tempered_cross_entropy", forward);
  m.impl("_tempered_cross_entropy_backward", backward);
}

} // namespace
} // namespace lerac_fast::cuda
