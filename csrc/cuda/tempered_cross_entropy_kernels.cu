#include "cuda/tempered_cross_entropy_kernels.h"

#include <cmath>

#include "cuda/launch.h"
#include "cuda/vector.h"
#include "math/elementary.h"
#include "math/float16.h"
#include "math/tempered_cross_entropy.h"

namespace lerac_fast::cuda {
namespace {

using math::Compute;

constexpr int kWarp = 32;
constexpr int kThreads = 256; // of a block
// As many blocks of a multiprocessor are asked for as leave enough registers: without it some kernels would spill.
constexpr int kBlocksAtOnce = 3;
constexpr int kThreadsToFinish = 1024; // of the one block
// A row is worked on by a warp, or by a block from this many classes on.
constexpr int64_t kLongRow = 2048;

// Combines the values of the threads of a row, which are a warp or the whole block, in the same order every time, so
// that all of them get the same bits.
template <int kThreadsPerRow, typename T, typename Combine> __device__ T fold(T value, const Combine& combine) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value = combine(value, __shfl_xor_sync(0xffffffff, value, lanes));
  if constexpr (kThreadsPerRow > kWarp) {
    __shared__ T of_warps[kThreadsPerRow / kWarp];
    if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = of_warps[0];
    for (int warp = 1; warp < kThreadsPerRow / kWarp; ++warp) value = combine(value, of_warps[warp]);
    __syncthreads(); // before the next fold writes
  }
  return value;
}
template <int kThreadsPerRow, typename T> __device__ T sum_of(T value) {
  return fold<kThreadsPerRow>(value, [](T a, T b) { return a + b; });
}
template <int kThreadsPerRow, typename T> __device__ T largest_of(T value) {
  return fold<kThreadsPerRow>(value, [](T a, T b) { return math::maximum(a, b); });
}

// Calls `work(z, j)` for this thread's logits of a row, kCount at a time from class j on.
template <int kCount, typename T, typename Element, typename Work>
__device__ void for_classes(const Element* row, int64_t classes, int thread, int threads, const Work& work) {
#pragma unroll 1 // other warps load meanwhile
  for (int64_t j = int64_t(thread) * kCount; j < classes; j += int64_t(threads) * kCount) {
    T z[kCount];
    load<kCount>(row + j, z);
    work(z, j);
  }
}

template <typename T> __device__ T inverse_of(T sigma) {
  const T inverse = 1 / sigma;
  return sigma > 0 && sigma < T(INFINITY) && inverse < T(INFINITY) ? inverse : T(NAN);
}

template <typename T> __device__ bool is_class(const TemperedRows<T>& rows, int64_t target) {
  return target >= 0 && target < rows.classes;
}

// The second loop over a row finds it in a cache.
template <int kThreadsPerRow, int kCount, typename Element, typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    forward(const TemperedRows<T> rows, int64_t count, T* losses, T* weights, TemperedStatistics<T>* statistics) {
  const int64_t r = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / kThreadsPerRow;
  if (r >= count) return; // all threads of the row
  const int thread = threadIdx.x % kThreadsPerRow;
  const int64_t target = rows.targets[r];
  if (target == rows.ignore_index || !is_class(rows, target)) {
    const bool ignored = target == rows.ignore_index;
    const T value = ignored ? T(0) : T(NAN), share = ignored ? T(0) : T(1);
    if (thread == 0) {
      losses[r] = value;
      statistics[r] = {value, value, value, share};
      if (weights != nullptr) weights[r] = share;
    }
    return;
  }
  const auto* row = static_cast<const Element*>(rows.logits) + r * rows.classes;
  const T inverse_sigma = inverse_of(rows.sigma[r]);

  T largest = -INFINITY; // or NaN
  for_classes<kCount, T>(row, rows.classes, thread, kThreadsPerRow, [&](const T(&z)[kCount], int64_t) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) largest = math::maximum(largest, z[i]);
  });
  largest = largest_of<kThreadsPerRow>(largest);

  math::CrossEntropySums<T> sums{};
  T weighted = 0;
  for_classes<kCount, T>(row, rows.classes, thread, kThreadsPerRow, [&](const T(&z)[kCount], int64_t j) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const T below = z[i] - largest, e = std::exp(below * inverse_sigma);
      sums.exponentials += e;
      sums.expected += e == 0 ? T(0) : e * below; // -inf is a class that cannot be
      if (rows.label_smoothing != 0) weighted += below * weight_of(rows, j + i);
    }
  });
  sums.exponentials = sum_of<kThreadsPerRow>(sums.exponentials);
  sums.expected = sum_of<kThreadsPerRow>(sums.expected);
  sums.wanted = wanted_of(rows, target);
  sums.aimed = wanted_at_target(rows, target) * (T(math::load(row[target])) - largest);
  if (rows.label_smoothing != 0) sums.aimed += smoothing_per_class(rows) * sum_of<kThreadsPerRow>(weighted);

  if (thread != 0) return;
  const T log_of_exponentials = std::log(sums.exponentials);
  losses[r] = math::tempered_loss(sums, log_of_exponentials, inverse_sigma);
  statistics[r] = {largest, log_of_exponentials, math::tempered_loss_by_sigma(sums, inverse_sigma), 1};
  if (weights != nullptr) weights[r] = weight_of(rows, target);
}

template <typename T>
__global__ void __launch_bounds__(kThreadsToFinish)
    finish(const T* losses, const T* weights, int64_t count, TemperedStatistics<T>* statistics, T* result) {
  double total = 0, weight = 0;
  for (int64_t r = threadIdx.x; r < count; r += kThreadsToFinish) {
    total += double(losses[r]);
    if (weights != nullptr) weight += double(weights[r]);
  }
  total = sum_of<kThreadsToFinish>(total);
  if (weights != nullptr) {
    weight = sum_of<kThreadsToFinish>(weight);
    total /= weight;
    for (int64_t r = threadIdx.x; r < count; r += kThreadsToFinish)
      if (statistics[r].share != 0) statistics[r].share /= T(weight);
  }
  if (threadIdx.x == 0) *result = T(total);
}

template <int kCount, typename Element, typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    backward(const TemperedRows<T> rows, int64_t count, int threads_per_row, const TemperedStatistics<T>* statistics,
             const T* gradients, int64_t stride, T* gradient_by_sigma, Element* gradient_by_logits) {
  const int place = int(threadIdx.x) / threads_per_row, thread = int(threadIdx.x) % threads_per_row;
  const int64_t r = int64_t(blockIdx.x) * (kThreads / threads_per_row) + place;
  if (r >= count) return;
  const int64_t target = rows.targets[r];
  const auto* row = static_cast<const Element*>(rows.logits) + r * rows.classes;
  Element* out = gradient_by_logits + r * rows.classes;
  const TemperedStatistics<T> statistic = statistics[r];
  if (statistic.share == 0 || !is_class(rows, target)) {
    T value[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) value[i] = statistic.share == 0 ? T(0) : T(NAN);
    for (int64_t j = int64_t(thread) * kCount; j < rows.classes; j += int64_t(threads_per_row) * kCount)
      store<kCount>(out + j, value);
    if (thread == 0) gradient_by_sigma[r] = value[0];
    return;
  }
  const T inverse_sigma = inverse_of(rows.sigma[r]), by_loss = gradients[r * stride] * statistic.share;
  const T wanted = wanted_of(rows, target), at_target = wanted_at_target(rows, target);
  const T per_class = smoothing_per_class(rows);
  for_classes<kCount, T>(row, rows.classes, thread, threads_per_row, [&](const T(&z)[kCount], int64_t j) {
    T by_logits[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const T p = std::exp((z[i] - statistic.largest_logit) * inverse_sigma - statistic.log_of_exponentials);
      T q = per_class == 0 ? T(0) : per_class * weight_of(rows, j + i);
      if (j + i == target) q += at_target;
      by_logits[i] = math::tempered_loss_by_logit(p, q, wanted, by_loss * inverse_sigma);
    }
    store<kCount>(out + j, by_logits);
  });
  if (thread == 0) gradient_by_sigma[r] = by_loss * statistic.loss_by_sigma;
}

// ---- launches ----

int threads_per_row(int64_t classes) { return classes < kLongRow ? kWarp : kThreads; }

int64_t blocks_of(int64_t count, int threads_per_row) {
  const int rows_per_block = kThreads / threads_per_row;
  return (count + rows_per_block - 1) / rows_per_block;
}

// Elements that one access takes, where all rows allow it.
template <typename Element> constexpr int kWide = kAccessBytes / int(sizeof(Element));

template <typename Element> bool is_wide(const void* logits, int64_t classes) {
  return classes % kWide<Element> == 0 && is_aligned(logits);
}

template <typename Element, typename T = Compute<Element>>
void launch_forward(const TemperedRows<T>& rows, int64_t count, T* losses, T* weights,
                    TemperedStatistics<T>* statistics, void* stream) {
  const int threads = threads_per_row(rows.classes);
  const auto run = [&](auto kernel) {
    launch(kernel, blocks_of(count, threads), kThreads, stream, rows, count, losses, weights, statistics);
  };
  if (count == 0) return;
  const bool wide = is_wide<Element>(rows.logits, rows.classes);
  if (threads == kWarp)
    run(wide ? forward<kWarp, kWide<Element>, Element, T> : forward<kWarp, 1, Element, T>);
  else
    run(wide ? forward<kThreads, kWide<Element>, Element, T> : forward<kThreads, 1, Element, T>);
}

template <typename T>
void launch_finish(const T* losses, const T* weights, int64_t count, TemperedStatistics<T>* statistics, T* result,
                   void* stream) {
  launch(finish<T>, 1, kThreadsToFinish, stream, losses, weights, count, statistics, result);
}

template <typename Element, typename T = Compute<Element>>
void launch_backward(const TemperedRows<T>& rows, int64_t count, const TemperedStatistics<T>* statistics,
                     const T* gradients, int64_t stride, T* gradient_by_sigma, void* gradient_by_logits, void* stream) {
  const int threads = threads_per_row(rows.classes);
  const bool wide = is_wide<Element>(rows.logits, rows.classes) && is_aligned(gradient_by_logits);
  if (count == 0) return;
  launch(wide ? backward<kWide<Element>, Element, T> : backward<1, Element, T>, blocks_of(count, threads), kThreads,
         stream, rows, count, threads, statistics, gradients, stride, gradient_by_sigma,
         static_cast<Element*>(gradient_by_logits));
}

template <typename Element>
constexpr TemperedCrossEntropyKernel<Compute<Element>> kernel{launch_forward<Element>, launch_finish<Compute<Element>>,
                                                              launch_backward<Element>};

} // namespace

const TemperedCrossEntropyKernels tempered_cross_entropy_kernels = {kernel<float>, kernel<double>,
                                                                    kernel<math::BFloat16>, kernel<math::Half>};

} // namespace lerac_fast::cuda
