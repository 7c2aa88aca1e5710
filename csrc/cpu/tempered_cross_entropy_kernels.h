// The inner loops of tempered_cross_entropy, compiled once per instruction set.
#pragma once

#include <cstdint>

namespace lerac_fast::cpu {

// Rows of logits [rows, classes], dense. T, the type of the arithmetic, is double for double and else float.
template <typename T> struct TemperedRows {
  const void* logits;
  int64_t classes;
  const int64_t* targets;
  const T* sigma;
  const T* class_weights; // or nullptr: all 1
  T sum_of_class_weights;
  T label_smoothing;
  int64_t ignore_index;
};

// What the backward pass needs of a row.
inline constexpr int64_t kStatistics = 4;
template <typename T> struct TemperedStatistics {
  T largest_logit, log_of_exponentials;
  T loss_by_sigma;
  T share; // of the row's loss in the result: 0 for ignored rows
};

template <typename T> struct TemperedCrossEntropyKernel {
  // Losses and statistics of the rows [begin, end); share is 1, or 0 for ignored rows, whose loss is 0.
  void (*forward)(const TemperedRows<T>&, T* losses, TemperedStatistics<T>* statistics, int64_t begin, int64_t end);
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
