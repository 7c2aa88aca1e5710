// tempered_cross_entropy on the CPU: lays logits out in rows of classes, and shares the rows among threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "cpu/capability.h"
#include "cpu/tempered_cross_entropy_kernels.h"
#include "ops/tempered_cross_entropy.h"

namespace lerac_fast::cpu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Fewer logits than this are not worth waking another thread for.
constexpr int64_t kLogitsPerThread = 16384;

const TemperedCrossEntropyKernels& kernels() { return LERAC_FAST_CHOOSE(tempered_cross_entropy_kernels); }

// Calls `work` with the kernel for the dtype of the logits.
template <typename Work> void with_kernel(at::ScalarType type, const Work& work) {
  switch (type) {
  case at::kFloat:
    return work(kernels().of_float);
  case at::kDouble:
    return work(kernels().of_double);
  case at::kBFloat16:
    return work(kernels().of_bfloat16);
  case at::kHalf:
    return work(kernels().of_half);
  default:
    TORCH_CHECK_VALUE(false, "tempered_cross_entropy: logits are of ", type,
                      "; on the CPU they may be float32, float64, bfloat16 or float16");
  }
}

template <typename T> struct ArithmeticOf;
template <typename T> struct ArithmeticOf<TemperedCrossEntropyKernel<T>> {
  using type = T;
};

Tensor dense(const Tensor& x, at::ScalarType type) { return (x.scalar_type() == type ? x : x.to(type)).contiguous(); }

Tensor classes_last(const Tensor& logits) { return (logits.dim() <= 2 ? logits : logits.movedim(1, -1)).contiguous(); }

// The operands as dense arrays in the type of the arithmetic; what has to be copied for that is kept here.
template <typename T> struct Operands {
  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;

  Operands(const Tensor& logits, const Tensor& targets, const Tensor& sigma, const OptionalTensor& weight,
           double label_smoothing, int64_t ignore_index)
      : logits(classes_last(logits)), targets(targets.contiguous()), sigma(dense(sigma, kType)),
        weight(weight ? dense(*weight, kType) : Tensor()) {
    const int64_t classes = this->logits.size(-1);
    rows = {this->logits.const_data_ptr(),
            classes,
            this->targets.template const_data_ptr<int64_t>(),
            this->sigma.template const_data_ptr<T>(),
            weight ? this->weight.template const_data_ptr<T>() : nullptr,
            T(classes),
            T(label_smoothing),
            ignore_index};
    if (weight) rows.sum_of_class_weights = std::accumulate(rows.class_weights, rows.class_weights + classes, T(0));
  }

  int64_t count() const { return targets.numel(); }
  int64_t grain() const { return std::max<int64_t>(1, kLogitsPerThread / std::max<int64_t>(1, rows.classes)); }

  Tensor logits, targets, sigma, weight;
  TemperedRows<T> rows;
};

template <typename T> void check_values(const TemperedRows<T>& rows, int64_t count) {
  for (int64_t r = 0; r < count; ++r) {
    const int64_t target = rows.targets[r];
    if (target == rows.ignore_index) continue;
    TORCH_CHECK_VALUE(target >= 0 && target < rows.classes, "tempered_cross_entropy: target ", target, " of row ", r,
                      " is not one of ", rows.classes, " classes, nor ignore_index=", rows.ignore_index);
    const T sigma = rows.sigma[r];
    TORCH_CHECK_VALUE(sigma > 0 && std::isfinite(sigma) && std::isfinite(1 / sigma), "tempered_cross_entropy: sigma ",
                      sigma, " of row ", r, " is not positive and finite, with a finite inverse");
  }
}

// Each row's share in the result, and the result.
template <typename T>
Tensor reduce(const TemperedRows<T>& rows, const Tensor& losses, TemperedStatistics<T>* statistics,
              ops::Reduction reduction) {
  if (reduction == ops::Reduction::kNone) return losses;
  const int64_t count = losses.numel();
  const T* loss = losses.const_data_ptr<T>();
  double total = 0, weights = 0;
  for (int64_t r = 0; r < count; ++r) {
    total += double(loss[r]);
    if (statistics[r].share != 0) weights += rows.class_weights ? double(rows.class_weights[rows.targets[r]]) : 1.0;
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
  Tensor losses = at::empty(targets.sizes(), options);
  Tensor statistics = at::empty({targets.numel(), kStatistics}, options);
  Tensor result;
  with_kernel(logits.scalar_type(), [&](const auto& kernel) {
    using T = typename ArithmeticOf<std::decay_t<decltype(kernel)>>::type;
    const Operands<T> operands(logits, targets, sigma, weight, label_smoothing, ignore_index);
    check_values(operands.rows, operands.count());
    T* loss = losses.mutable_data_ptr<T>();
    auto* statistic = reinterpret_cast<TemperedStatistics<T>*>(statistics.mutable_data_ptr<T>());
    at::parallel_for(0, operands.count(), operands.grain(),
                     [&](int64_t begin, int64_t end) { kernel.forward(operands.rows, loss, statistic, begin, end); });
    result = reduce<T>(operands.rows, losses, statistic, how);
  });
  return {dense(result, at::promote_types(logits.scalar_type(), sigma.scalar_type())), statistics};
}

std::tuple<Tensor, Tensor> backward(const Tensor& gradient, const Tensor& logits, const Tensor& targets,
                                    const Tensor& sigma, const OptionalTensor& weight, const Tensor& statistics,
                                    double label_smoothing, int64_t ignore_index) {
  Tensor by_logits = at::empty_like(logits);
  Tensor by_sigma = at::empty(targets.sizes(), statistics.options());
  const Tensor view = logits.dim() <= 2 ? by_logits : by_logits.movedim(1, -1);
  const Tensor rows = view.is_contiguous() ? view : at::empty(view.sizes(), logits.options());
  with_kernel(logits.scalar_type(), [&](const auto& kernel) {
    using T = typename ArithmeticOf<std::decay_t<decltype(kernel)>>::type;
    const Operands<T> operands(logits, targets, sigma, weight, label_smoothing, ignore_index);
    const auto* statistic = reinterpret_cast<const TemperedStatistics<T>*>(statistics.const_data_ptr<T>());
    const Tensor upstream = dense(gradient, Operands<T>::kType);
    const T* of_result = upstream.const_data_ptr<T>();
    const int64_t stride = upstream.numel() == 1 ? 0 : 1; // one for all rows, or one for each
    Tensor by_losses = at::empty(targets.sizes(), statistics.options());
    T* by_loss = by_losses.mutable_data_ptr<T>();
    T* sigma_gradient = by_sigma.mutable_data_ptr<T>();
    void* out = rows.mutable_data_ptr();
    at::parallel_for(0, operands.count(), operands.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        by_loss[r] = of_result[r * stride] * statistic[r].share;
        sigma_gradient[r] = by_loss[r] * statistic[r].loss_by_sigma;
      }
      kernel.backward(operands.rows, statistic, by_loss, out, begin, end);
    });
  });
  if (!rows.is_same(view)) view.copy_(rows);
  return {by_logits, dense(by_sigma, sigma.scalar_type())};
}

TORCH_LIBRARY_IMPL(lerac_fast, CPU, m) {
  m.impl("_tempered_cross_entropy", forward);
  m.impl("_tempered_cross_entropy_backward", backward);
}

} // namespace
} // namespace lerac_fast::cpu
