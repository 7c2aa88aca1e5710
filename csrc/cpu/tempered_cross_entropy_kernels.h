// The inner loops of tempered_cross_entropy, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "ops/tempered_rows.h"

namespace lerac_fast::cpu {

using ops::TemperedRows;
using ops::TemperedStatistics;

// A row whose target is no class, or whose sigma is not positive and finite with a finite inverse: what was read.
template <typename T> struct BadRow {
  int64_t row, target;
  T sigma;
};

template <typename T> struct TemperedCrossEntropyKernel {
  // Losses and statistics of the rows [begin, end), up to the first bad row, which it returns, or one with the number
  // `end`. share is 1, or 0 for ignored rows, whose loss is 0. `class_weights`, or nullptr: of each row's target, 0 for
  // ignored rows.
  BadRow<T> (*forward)(const TemperedRows<T>&, T* losses, T* class_weights, TemperedStatistics<T>* statistics,
                       int64_t begin, int64_t end);
  // Writes to the dense rows [begin, end) of `gradient_by_logits`. `gradients`: of the result by each row's loss.
  void (*backward)(const TemperedRows<T>&, const TemperedStatistics<T>* statistics, const T* gradients,
                   void* gradient_by_logits, int64_t begin, int64_t end);
};

struct TemperedCrossEntropyKernels {
  TemperedCrossEntropyKernel<float> of_float;
  TemperedCrossEntropyKernel<double> of_double;
  TemperedCrossEntropyKernel<float> of_bfloat16;
  TemperedCrossEntropyKernel<float> of_half;
};

// One definition per instruction set that the build compiled; see CMakeLists.txt.
extern const TemperedCrossEntropyKernels tempered_cross_entropy_kernels_baseline;
extern const TemperedCrossEntropyKernels tempered_cross_entropy_kernels_avx2;
extern const TemperedCrossEntropyKernels tempered_cross_entropy_kernels_avx512;

} // namespace lerac_fast::cpu
