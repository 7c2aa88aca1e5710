// Numbers that only the device knows: before the update of its rows, one thread for each reads them, counts its step,
// and makes the rule.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/arguments.h"
#include "cuda/launch.h"
#include "cuda/optimizer_step_kernels.h"
#include "cuda/overlap.h"
#include "math/bias_correction.h"

namespace lerac_fast::cuda {

using engine::DeviceNumber;
using math::Hyperparameters;

// Of a row, by who knows them. Rows whose numbers differ in the rate alone share all others, so that one launch
// prepares many rates.
struct HostNumbers {
  double lr;
  uint64_t others; // index
};
struct DeviceNumbers {
  DeviceNumber lr, step; // step: where the host knows it, nothing is counted
};

constexpr int kPrepareThreads = 64;

struct PrepareArguments {
  uint32_t rows;
  const float* grad_scale;
  const float* found_inf;
  Arrays<HostNumbers, DeviceNumbers, Hyperparameters, kArgumentBytes, 24 + sizeof(void*)> arrays; // beside a pointer
};
static_assert(sizeof(PrepareArguments) + sizeof(void*) <= kArgumentBytes);

__device__ __forceinline__ double read(const DeviceNumber& number) {
  return number.is_double() ? *static_cast<const double*>(number.address())
                            : *static_cast<const float*>(number.address());
}

__device__ __forceinline__ void write(const DeviceNumber& number, double value) {
  if (number.is_double())
    *static_cast<double*>(number.address()) = value;
  else
    *static_cast<float*>(number.address()) = static_cast<float>(value);
}

template <typename Rule>
__global__ void __launch_bounds__(kPrepareThreads)
    prepare(const __grid_constant__ PrepareArguments a, Rule* __restrict__ prepared) {
  let_next_begin(); // the update of the rows
  const uint32_t index = blockIdx.x * kPrepareThreads + threadIdx.x;
  if (index >= a.rows || (a.found_inf != nullptr && *a.found_inf != 0)) return;
  const HostNumbers& known = a.arrays.first()[index];
  const auto& [lr, step] = a.arrays.second(a.rows)[index];
  Hyperparameters h = a.arrays.third(a.rows)[known.others];
  h.lr = lr.is_known_to_host() ? known.lr : read(lr);
  if (a.grad_scale != nullptr) h.inverse_scale = 1 / double(*a.grad_scale);
  if (!step.is_known_to_host()) {
    const double t = read(step) + 1;
    write(step, t);
    math::correct_bias(h, t);
  }
  prepared[index] = Rule(h);
}

// Where numbers lie that are equal but for the rate; behind all others, if none of the last ones is.
inline uint64_t index_among(std::vector<Hyperparameters>& others, Hyperparameters h) {
  constexpr size_t kLast = 4; // weights and biases, with and without decay, take turns
  h.lr = 0;
  for (size_t i = others.size(); i-- > 0 && others.size() - i <= kLast;) {
    if (others[i] == h) return i;
  }
  others.push_back(h);
  return others.size() - 1;
}

// Queues the making of the rules of the rows from `begin` to `end`: one launch, or as many as their numbers need.
template <typename Rule>
void prepare_rows(const Update& update, int64_t begin, int64_t end, Rule* prepared, void* stream) {
  while (begin < end) {
    PrepareArguments a;
    a.grad_scale = update.grad_scale;
    a.found_inf = update.found_inf;
    // Their array comes behind those of the rows, and how many rows there are is known only afterwards.
    std::vector<Hyperparameters> others;
    int64_t last = begin;
    for (; last < end; ++last) {
      const size_t before = others.size();
      const Hyperparameters& h = update.numbers(last);
      const uint64_t index = index_among(others, h);
      if (!a.arrays.fit(size_t(last + 1 - begin), others.size())) {
        others.resize(before);
        break;
      }
      a.arrays.first()[last - begin] = {h.lr, index};
    }
    a.rows = uint32_t(last - begin);
    for (int64_t r = begin; r < last; ++r) {
      const engine::Row& row = update.rows[r];
      a.arrays.second(a.rows)[r - begin] = {update.rates[row.hyperparameters], row.step};
    }
    std::copy(others.begin(), others.end(), a.arrays.third(a.rows));
    // Not by `launch_overlapping`: the update counts on it that all before this one has ended.
    launch(prepare<Rule>, (a.rows + kPrepareThreads - 1) / kPrepareThreads, kPrepareThreads, stream, a,
           prepared + begin);
    begin = last;
  }
}

} // namespace lerac_fast::cuda
