#include "ops/sweeps.h"

#include <algorithm>

namespace lerac_fast::ops {

using at::IntArrayRef;
using at::Tensor;

namespace {

// Part of a dense tensor's memory order: axes that are smoothed stand alone, others are merged with their neighbours.
struct Axis {
  int64_t size;
  bool smoothed;
};

std::vector<Axis> axes_in_memory_order(const Tensor& x, IntArrayRef dims) {
  std::vector<int64_t> order(static_cast<size_t>(x.dim()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = int64_t(i);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x.stride(a) > x.stride(b); });
  std::vector<Axis> axes;
  for (int64_t dim : order) {
    const bool smoothed =
        std::any_of(dims.begin(), dims.end(), [&](int64_t d) { return (d + x.dim()) % x.dim() == dim; });
    if (!smoothed && !axes.empty() && !axes.back().smoothed)
      axes.back().size *= x.size(dim);
    else
      axes.push_back({x.size(dim), smoothed});
  }
  return axes;
}

} // namespace

std::vector<Sweep> sweeps_over(const Tensor& x, IntArrayRef dims) {
  const auto axes = axes_in_memory_order(x, dims);
  std::vector<Sweep> sweeps;
  int64_t inner = 1;
  for (size_t i = axes.size(); i-- > 0;) { // innermost first
    if (axes[i].smoothed) {
      const int64_t columns = axes[i].size;
      const bool pair = i > 0 && axes[i - 1].smoothed;
      const int64_t rows = pair ? axes[--i].size : 1;
      int64_t planes = 1;
      for (size_t j = 0; j < i; ++j) planes *= axes[j].size;
      if (pair || inner == 1)
        sweeps.push_back({planes, {rows, columns, inner, columns * inner, pair, true}});
      else // the elements inside are one long row
        sweeps.push_back({planes, {columns, 1, inner, inner, true, false}});
      inner *= rows;
      inner *= columns;
    } else {
      inner *= axes[i].size;
    }
  }
  return sweeps;
}

} // namespace lerac_fast::ops
