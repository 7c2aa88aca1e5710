// What gaussian_smooth sees of a tensor's memory. Without torch: kernels include it.
#pragma once

#include <cstdint>

namespace lerac_fast::ops {

// Rows of `columns` x `inner` elements, smoothed across the rows, along the columns, or both.
struct Plane {
  int64_t rows, columns, inner;
  int64_t row_stride; // in elements, from one row to the next
  bool across_rows, across_columns;

  int64_t row_size() const { return columns * inner; }
};

// The types of elements that the kernels smooth.
enum class SmoothElement : uint8_t { kFloat, kDouble, kBFloat16, kHalf };

// Smooths `planes` of them, which lie one behind the other.
struct Sweep {
  int64_t planes;
  Plane plane;
};

} // namespace lerac_fast::ops
