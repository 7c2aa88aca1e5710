#include "engine/plan.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <type_traits>
#include <utility>

#include "engine/backend.h"

namespace lerac_fast::engine {

// What is kept of a tensor between steps, beside torch's state: docs/performance.md.
static_assert(sizeof(Source) + sizeof(Row) + sizeof(int64_t) <= 144);

TensorTable& Plan::table(at::Device device, Rule rule, Elements elements) {
  for (auto& table : tables) {
    if (table.holds(device, rule, elements)) return table;
  }
  return tables.emplace_back(TensorTable{device, rule, elements, {}, {0}, {}, {}, {}, {}, {}});
}

void* Plan::operand(const at::Tensor& tensor, const at::Tensor& param, bool written) {
  const bool dense = param.is_non_overlapping_and_dense();
  if (dense ? share_dense_layout(tensor, param) : tensor.is_contiguous())
    return written ? tensor.mutable_data_ptr() : const_cast<void*>(tensor.const_data_ptr());
  auto copy = dense ? at::empty_strided(param.sizes(), param.strides(), tensor.options())
                    : at::empty(param.sizes(), tensor.options());
  // An expanded gradient cannot hold its unscaled values; it keeps the scaled ones.
  written = written && at::has_internal_overlap(tensor) != at::MemOverlap::Yes;
  scattered.push_back({tensor, std::move(copy), written});
  return scattered.back().dense.mutable_data_ptr();
}

bool Plan::is_brief() const {
  int64_t numel = 0;
  for (const auto& table : tables) {
    if (table.rows.empty()) continue;
    numel += table.numel();
    if (numel > find_backend(table.device.type())->brief) return false;
  }
  return true;
}

void Plan::clear() {
  is_kept = false;
  for (auto& table : tables) table.clear();
  sources.clear();
  groups.clear();
  policies.clear();
  release();
}

void Plan::release() {
  const auto release = [](auto& vector) { std::exchange(vector, std::remove_reference_t<decltype(vector)>()); };
  release(written);
  release(held);
  release(gradients);
  release(scattered);
  release(first_states);
}

} // namespace lerac_fast::engine
