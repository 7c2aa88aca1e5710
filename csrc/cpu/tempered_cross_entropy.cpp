// tempered_cross_entropy on the CPU: lays logits out in rows of classes, and shares the rows among threads.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <mutex>
#include <numeric>

#include "cpu/capability.h"
#include "cpu/parallel.h"
#include "cpu/tempered_cross_entropy_kernels.h"
#include "ops/tempered_cross_entropy.h"
#include "ops/tempered_operands.h"

namespace lerac_fast::cpu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Fewer logits than this are not worth waking another thread for.
constexpr int64_t kLogitsPerThread = 16384;

const TemperedCrossEntropyKernels& kernels() { return LERAC_FAST_CHOOSE(tempered_cross_entropy_kernels); }

// Calls `work` with the kernel for the dtype of the logits.
template <typename Work> void with_kernel(at::ScalarType type, const Work& work) {
  ops::with_kernel(kernels(), type, "the CPU", work);
}

template <typename T> struct Operands : ops::TemperedOperands<T> {
  Operands(const Tensor& logits, const Tensor& targets, const Tensor& sigma, const OptionalTensor& weight,
           double label_smoothing, int64_t ignore_index)
      : ops::TemperedOperands<T>(logits, targets, sigma, weight, label_smoothing, ignore_index) {
    if (!weight) return;
    sum_of_weights = std::accumulate(this->rows.class_weights, this->rows.class_weights + this->rows.classes, T(0));
    this->rows.sum_of_class_weights = &sum_of_weights;
  }
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  int64_t grain() const { return std::max<int64_t>(1, kLogitsPerThread / std::max<int64_t>(1, this->rows.classes)); }

  T sum_of_weights;
};

template <typename T> void refuse(const BadRow<T>& bad, const TemperedRows<T>& rows) {
  TORCH_CHECK_VALUE(bad.target >= 0 && bad.target < rows.classes, "tempered_cross_entropy: target ", bad.target,
                    " of row ", bad.row, " is not one of ", rows.classes,
                    " classes, nor ignore_index=", rows.ignore_index);
  TORCH_CHECK_VALUE(false, "tempered_cross_entropy: sigma ", bad.sigma, " of row ", bad.row,
                    " is not positive and finite, with a finite inverse");
}

// Calls `work(begin, end)`, which returns a bad row or one with the number `end`, for parts of `count` rows in
// parallel, and refuses the first row that is bad.
template <typename T, typename Work>
void for_good_rows(const TemperedRows<T>& rows, int64_t count, int64_t grain, const Work& work) {
  std::mutex mutex;
  BadRow<T> first{count, 0, 0};
  parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    const BadRow<T> bad = work(begin, end);
    if (bad.row == end) return;
    const std::lock_guard lock(mutex);
    if (bad.row < first.row) first = bad;
  });
  if (first.row < count) refuse(first, rows);
}

// Each row's share in the result, and the result. `class_weights`, or nullptr: of each row's target.
template <typename T>
Tensor reduce(const Tensor& losses, const T* class_weights, TemperedStatistics<T>* statistics,
              ops::Reduction reduction) {
  if (reduction == ops::Reduction::kNone) return losses;
  const int64_t count = losses.numel();
  const T* loss = losses.const_data_ptr<T>();
  double total = 0, weights = 0;
  for (int64_t r = 0; r < count; ++r) {
    total += double(loss[r]);
    weights += double(class_weights ? class_weights[r] : statistics[r].share);
  }
  if (reduction == ops::Reduction::kMean) {
    total /= weights;
    for (int64_t r = 0; r < count; ++r)
      if (statistics[r].share != 0) statistics[r].share /= T(weights);
  }
  Tensor result = at::empty({}, losses.options());
  *result.mutable_data_ptr<T>() = T(total);
  return result;
}

std::tuple<Tensor, Tensor> forward(const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                                   const OptionalTensor& weight, c10::string_view reduction, double label_smoothing,
                                   int64_t ignore_index) {
  const auto how = ops::check_tempered_cross_entropy(logits, targets, sigma, weight, reduction, label_smoothing);
  const auto options = logits.options().dtype(ops::compute_type(logits)).memory_format(at::MemoryFormat::Contiguous);
  const bool weighted = weight && how == ops::Reduction::kMean;
  Tensor losses = at::empty(targets.sizes(), options);
  Tensor class_weights = weighted ? at::empty(targets.sizes(), options) : Tensor();
  Tensor statistics = at::empty({targets.numel(), ops::kStatistics}, options);
  Tensor result;
  with_kernel(logits.scalar_type(), [&](const auto& kernel) {
    using T = typename ops::ArithmeticOf<std::decay_t<decltype(kernel)>>::type;
    const Operands<T> operands(logits, targets, sigma, weight, label_smoothing, ignore_index);
    T* loss = losses.mutable_data_ptr<T>();
    T* of_target = weighted ? class_weights.mutable_data_ptr<T>() : nullptr;
    auto* statistic = reinterpret_cast<TemperedStatistics<T>*>(statistics.mutable_data_ptr<T>());
    for_good_rows(operands.rows, operands.count(), operands.grain(), [&](int64_t begin, int64_t end) {
      return kernel.forward(operands.rows, loss, of_target, statistic, begin, end);
    });
    result = reduce<T>(losses, of_target, statistic, how);
  });
  return {ops::dense(result, at::promote_types(logits.scalar_type(), sigma.scalar_type())), statistics};
}

std::tuple<Tensor, Tensor> backward(const Tensor& gradient, const Tensor& logits, const Tensor& targets,
                                    const Tensor& sigma, const OptionalTensor& weight, const Tensor& statistics,
                                    double label_smoothing, int64_t ignore_index) {
  ops::check_tempered_cross_entropy_backward(gradient, logits, targets, sigma, weight, statistics, label_smoothing);
  const ops::GradientOfLogits by_logits(logits);
  Tensor by_sigma = at::empty(targets.sizes(), statistics.options());
  with_kernel(logits.scalar_type(), [&](const auto& kernel) {
    using T = typename ops::ArithmeticOf<std::decay_t<decltype(kernel)>>::type;
    const Operands<T> operands(logits, targets, sigma, weight, label_smoothing, ignore_index);
    const Tensor saved = statistics.contiguous();
    const auto* statistic = reinterpret_cast<const TemperedStatistics<T>*>(saved.const_data_ptr<T>());
    const Tensor upstream = ops::dense(gradient, Operands<T>::kType);
    const T* of_result = upstream.const_data_ptr<T>();
    const int64_t stride = upstream.numel() == 1 ? 0 : 1; // one for all rows, or one for each
    Tensor by_losses = at::empty(targets.sizes(), statistics.options());
    T* by_loss = by_losses.mutable_data_ptr<T>();
    T* sigma_gradient = by_sigma.mutable_data_ptr<T>();
    void* out = by_logits.rows.mutable_data_ptr();
    parallel_for(0, operands.count(), operands.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        by_loss[r] = of_result[r * stride] * statistic[r].share;
        sigma_gradient[r] = by_loss[r] * statistic[r].loss_by_sigma;
      }
      kernel.backward(operands.rows, statistic, by_loss, out, begin, end);
    });
  });
  return {by_logits.finish(), ops::dense(by_sigma, sigma.scalar_type())};
}

TORCH_LIBRARY_IMPL(lerac_fast, CPU, m) {
  m.impl("_tempered_cross_entropy", forward);
  m.impl("_tempered_cross_entropy_backward", backward);
}

} // namespace
} // namespace lerac_fast::cpu
