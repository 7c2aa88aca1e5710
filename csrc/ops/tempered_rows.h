// What tempered_cross_entropy sees of its operands. Without torch: kernels include it. T, the type of the arithmetic,
// is double for double and else float.
#pragma once

#include <cstdint>

#include "math/inline.h"

namespace lerac_fast::ops {

// Rows of logits [rows, classes], dense.
template <typename T> struct TemperedRows {
  const void* logits;
  int64_t classes;
  const int64_t* targets;
  const T* sigma;
  const T* class_weights;        // or nullptr: all 1
  const T* sum_of_class_weights; // needed with class weights and label smoothing
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

template <typename T> LERAC_INLINE T weight_of(const TemperedRows<T>& rows, int64_t target) {
  return rows.class_weights == nullptr ? T(1) : rows.class_weights[target];
}

// The part of q that label smoothing puts on every class, before its weight.
template <typename T> LERAC_INLINE T smoothing_per_class(const TemperedRows<T>& rows) {
  return rows.label_smoothing / T(rows.classes);
}

// The part of q that is at the target alone.
template <typename T> LERAC_INLINE T wanted_at_target(const TemperedRows<T>& rows, int64_t target) {
  return (1 - rows.label_smoothing) * weight_of(rows, target);
}

// A, the sum of q.
template <typename T> LERAC_INLINE T wanted_of(const TemperedRows<T>& rows, int64_t target) {
  const T at_target = wanted_at_target(rows, target);
  if (rows.label_smoothing == 0) return at_target;
  const T everywhere = rows.class_weights == nullptr ? T(rows.classes) : *rows.sum_of_class_weights;
  return at_target + smoothing_per_class(rows) * everywhere;
}

} // namespace lerac_fast::ops
