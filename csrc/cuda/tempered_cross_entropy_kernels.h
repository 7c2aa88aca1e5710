// The launches of tempered_cross_entropy. All pointers are to memory of the GPU; `stream` is a cudaStream_t.
#pragma once

#include <cstdint>

#include "ops/tempered_rows.h"

namespace lerac_fast::cuda {

using ops::TemperedRows;
using ops::TemperedStatistics;

// Up to as many rows finish() takes; it runs on one multiprocessor.
inline constexpr int64_t kRowsToFinish = 16384;

// The host does not see values, so a target that is no class or a sigma that is not positive and finite, with a finite
// inverse, makes the row's loss and gradients NaN.
template <typename T> struct TemperedCrossEntropyKernel {
  // Of `count` rows the losses, the statistics (share is 1, or 0 for ignored rows, whose loss is 0) and, unless it is
  // nullptr, what each row weighs in a mean.
  void (*forward)(const TemperedRows<T>& rows, int64_t count, T* losses, T* weights, TemperedStatistics<T>* statistics,
                  void* stream);
  // The sum of the losses or, with `weights`, their mean, and the shares that are due to it. The same bits every time.
  void (*finish)(const T* losses, const T* weights, int64_t count, TemperedStatistics<T>* statistics, T* result,
                 void* stream);
  // `gradients`, `stride` apart: of the result, where it is one number, else of each row's loss.
  void (*backward)(const TemperedRows<T>& rows, int64_t count, const TemperedStatistics<T>* statistics,
                   const T* gradients, int64_t stride, T* gradient_by_sigma, void* gradient_by_logits, void* stream);
};

struct TemperedCrossEntropyKernels {
  TemperedCrossEntropyKernel<float> of_float;
  TemperedCrossEntropyKernel<double> of_double;
  TemperedCrossEntropyKernel<float> of_bfloat16;
  TemperedCrossEntropyKernel<float> of_half;
};

extern const TemperedCrossEntropyKernels tempered_cross_entropy_kernels;

} // namespace lerac_fast::cuda
