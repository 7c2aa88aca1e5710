#include "cuda/tempered_cross_entropy_kernels.h"

#include <cmath>
#include <type_traits>

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
// As many blocks of a multiprocessor are asked for as leave enough registers: with more some kernels would spill.
template <typename T> constexpr int kBlocksAtOnce = 4;
template <> constexpr int kBlocksAtOnce<double> = 2;
constexpr int kThreadsToFinish = 1024; // of the one block
// A row is worked on by a warp, or by a block: from this many classes on, and where rows are too few to fill a GPU with
// their warps.
constexpr int64_t kLongRow = 2048, kLongRowOfFew = 256;
constexpr int64_t kFewRows = 1024;

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
  return fold<kThreadsPerRow>(value, [](T a, T b) { return std::fmax(a, b); });
}

// A row of any alignment: first the classes up to the first aligned access, then such accesses of kCount classes, then
// the rest.
template <int kCount> struct Split {
  int64_t head, body_end, classes;

  template <typename Element> __device__ Split(const Element* row, int64_t classes) : head(0), classes(classes) {
    if constexpr (kCount > 1) {
      const auto beyond = reinterpret_cast<uintptr_t>(row) / sizeof(Element) % kCount;
      head = beyond == 0 ? 0 : int64_t(kCount - beyond);
      head = head < classes ? head : classes;
    }
    body_end = head + (classes - head) / kCount * kCount;
  }

  // Calls `work(j)` for the class of a thread that is in no whole access; there are fewer than threads of a warp.
  template <typename Work> __device__ void for_ends(int thread, const Work& work) const {
    if (thread < head)
      work(thread);
    else if (thread - head < classes - body_end)
      work(body_end + thread - head);
  }
};

// Calls `work(z, j)` for this thread's logits of a row, from class j on. The next are on their way meanwhile.
template <int kCount, typename T, typename Element, typename Work>
__device__ void for_classes(const Element* row, int64_t classes, int thread, int threads, const Work& work) {
  using Access = Vector<Element, kCount>;
  const Split<kCount> split(row, classes);
  const int64_t step = int64_t(threads) * kCount;
  const auto at = [&](int64_t j) { return *reinterpret_cast<const Access*>(row + j); };
  int64_t j = split.head + int64_t(thread) * kCount;
  Access next{};
  if (j < split.body_end) next = at(j);
#pragma unroll 1
  for (; j < split.body_end; j += step) {
    T z[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) z[i] = math::load(next.elements[i]);
    if (j + step < split.body_end) next = at(j + step);
    work(z, j);
  }
  if constexpr (kCount > 1) {
    split.for_ends(thread, [&](int64_t end) {
      const T z[1] = {math::load(row[end])};
      work(z, end);
    });
  }
}

template <typename T> __device__ T inverse_of(T sigma) {
  const T inverse = 1 / sigma;
  return sigma > 0 && sigma < T(INFINITY) && inverse < T(INFINITY) ? inverse : T(NAN);
}

template <typename T> __device__ bool is_class(const TemperedRows<T>& rows, int64_t target) {
  return target >= 0 && target < rows.classes;
}

// exp(x) where x is small or the result is one of many in a sum: the error of float's grows with |x|, which is where
// exp(x) is next to nothing. A power of two is one instruction of a GPU.
__device__ __forceinline__ double exponential(double x) { return std::exp(x); }
__device__ __forceinline__ float exponential(float x) {
  constexpr float kLog2OfE = 1.44269504f;
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * kLog2OfE));
  return result;
#else
  return std::exp2(x * kLog2OfE);
#endif
}

// What one pass over a row keeps: the largest logit so far, and sums that are relative to it.
template <typename T> struct Seen {
  T largest = -INFINITY; // no NaN: such a logit makes the sums NaN
  T exponentials = 0;
  T expected = 0;

  __device__ void raise(T to, T inverse_sigma) {
    const T by = largest - to, scale = exponential(by * inverse_sigma);
    expected = scale == 0 ? T(0) : scale * (expected + exponentials * by); // `by` may be infinite
    exponentials *= scale;
    largest = to;
  }

  template <int kCount> __device__ void add(const T (&z)[kCount], T inverse_sigma) {
    T highest = largest;
#pragma unroll
    for (int i = 0; i < kCount; ++i) highest = std::fmax(highest, z[i]);
    if (highest != largest) raise(highest, inverse_sigma);
    const T from = highest == -T(INFINITY) ? T(0) : highest; // -inf is a class that cannot be
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const T below = z[i] - from, e = exponential(below * inverse_sigma);
      exponentials += e;
      expected += e == 0 ? T(0) : e * below;
    }
  }
};

// kSmoothes: the labels.
template <int kThreadsPerRow, int kCount, bool kSmoothes, typename Element, typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<T>)
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

  Seen<T> seen;
  double everywhere = 0, weighted = 0; // relative to nothing, so that they need double precision
  for_classes<kCount, T>(row, rows.classes, thread, kThreadsPerRow, [&]<int kMany>(const T(&z)[kMany], int64_t j) {
    seen.add(z, inverse_sigma);
    if constexpr (kSmoothes) {
#pragma unroll
      for (int i = 0; i < kMany; ++i) {
        const double weight = double(weight_of(rows, j + i));
        everywhere += weight;
        weighted += double(z[i]) * weight;
      }
    }
  });
  const T largest = largest_of<kThreadsPerRow>(seen.largest);
  if (largest != seen.largest) seen.raise(largest, inverse_sigma);

  math::CrossEntropySums<T> sums{};
  sums.exponentials = sum_of<kThreadsPerRow>(seen.exponentials);
  sums.expected = sum_of<kThreadsPerRow>(seen.expected);
  sums.wanted = wanted_of(rows, target);
  sums.aimed = wanted_at_target(rows, target) * (T(math::load(row[target])) - largest);
  if constexpr (kSmoothes) {
    const double below = sum_of<kThreadsPerRow>(weighted) - double(largest) * sum_of<kThreadsPerRow>(everywhere);
    sums.aimed += smoothing_per_class(rows) * T(below);
  }

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

template <int kCount, bool kSmoothes, typename Element, typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<T>)
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
    const T value = statistic.share == 0 ? T(0) : T(NAN);
    for (int64_t j = thread; j < rows.classes; j += threads_per_row) math::store(out[j], value);
    if (thread == 0) gradient_by_sigma[r] = value;
    return;
  }
  const T inverse_sigma = inverse_of(rows.sigma[r]), by_loss = gradients[r * stride] * statistic.share;
  const T wanted = wanted_of(rows, target), at_target = wanted_at_target(rows, target);
  [[maybe_unused]] const T per_class = smoothing_per_class(rows);
  for_classes<kCount, T>(row, rows.classes, thread, threads_per_row, [&]<int kMany>(const T(&z)[kMany], int64_t j) {
    T by_logits[kMany];
#pragma unroll
    for (int i = 0; i < kMany; ++i) {
      const T p = exponential((z[i] - statistic.largest_logit) * inverse_sigma - statistic.log_of_exponentials);
      T q = 0;
      if constexpr (kSmoothes) q = per_class * weight_of(rows, j + i);
      if (j + i == target) q += at_target;
      by_logits[i] = math::tempered_loss_by_logit(p, q, wanted, by_loss * inverse_sigma);
    }
    store<kMany>(out + j, by_logits);
  });
  if (thread == 0) gradient_by_sigma[r] = by_loss * statistic.loss_by_sigma;
}

// ---- launches ----

int threads_per_row(int64_t count, int64_t classes) {
  return classes < (count < kFewRows ? kLongRowOfFew : kLongRow) ? kWarp : kThreads;
}

int64_t blocks_of(int64_t count, int threads_per_row) {
  const int rows_per_block = kThreads / threads_per_row;
  return (count + rows_per_block - 1) / rows_per_block;
}

template <typename Element> constexpr int kWide = kAccessBytes / int(sizeof(Element));

template <typename Element, typename T = Compute<Element>>
void launch_forward(const TemperedRows<T>& rows, int64_t count, T* losses, T* weights,
                    TemperedStatistics<T>* statistics, void* stream) {
  if (count == 0) return;
  const int threads = threads_per_row(count, rows.classes);
  const auto run = [&]<int kThreadsPerRow>(std::integral_constant<int, kThreadsPerRow>) {
    const auto kernel = rows.label_smoothing == 0 ? forward<kThreadsPerRow, kWide<Element>, false, Element, T>
                                                  : forward<kThreadsPerRow, kWide<Element>, true, Element, T>;
    launch(kernel, blocks_of(count, threads), kThreads, stream, rows, count, losses, weights, statistics);
  };
  if (threads == kWarp)
    run(std::integral_constant<int, kWarp>());
  else
    run(std::integral_constant<int, kThreads>());
}

template <typename T>
void launch_finish(const T* losses, const T* weights, int64_t count, TemperedStatistics<T>* statistics, T* result,
                   void* stream) {
  launch(finish<T>, 1, kThreadsToFinish, stream, losses, weights, count, statistics, result);
}

template <typename Element, typename T = Compute<Element>>
void launch_backward(const TemperedRows<T>& rows, int64_t count, const TemperedStatistics<T>* statistics,
                     const T* gradients, int64_t stride, T* gradient_by_sigma, void* gradient_by_logits, void* stream) {
  if (count == 0) return;
  const int threads = threads_per_row(count, rows.classes);
  // Rows of both begin alike, so that an access that is aligned in one is in the other.
  const bool wide =
      (reinterpret_cast<uintptr_t>(rows.logits) - reinterpret_cast<uintptr_t>(gradient_by_logits)) % kAccessBytes == 0;
  const auto kernel = rows.label_smoothing == 0
                          ? (wide ? backward<kWide<Element>, false, Element, T> : backward<1, false, Element, T>)
                          : (wide ? backward<kWide<Element>, true, Element, T> : backward<1, true, Element, T>);
  launch(kernel, blocks_of(count, threads), kThreads, stream, rows, count, threads, statistics, gradients, stride,
         gradient_by_sigma, static_cast<Element*>(gradient_by_logits));
}

template <typename Element>
constexpr TemperedCrossEntropyKernel<Compute<Element>> kernel{launch_forward<Element>, launch_finish<Compute<Element>>,
                                                              launch_backward<Element>};

} // namespace

const TemperedCrossEntropyKernels tempered_cross_entropy_kernels = {kernel<float>, kernel<double>,
                                                                    kernel<math::BFloat16>, kernel<math::Half>};

} // namespace lerac_fast::cuda
