// The optimizer step on the CPU: threads share the table's elements evenly, whatever the tensor boundaries.
#include <algorithm>

#include "cpu/capability.h"
#include "cpu/optimizer_step_kernels.h"
#include "cpu/parallel.h"
#include "engine/backend.h"

namespace lerac_fast::cpu {
namespace {

// Threads divide the elements in units of a cache line of floats.
constexpr int64_t kUnit = 16;
// Fewer elements than this are not worth waking another thread for: about 10 microseconds of Adam.
constexpr int64_t kElementsPerThread = 32768;

const OptimizerStepKernels& kernels() { return LERAC_FAST_CHOOSE(optimizer_step_kernels); }

// Updates the elements [begin, end) of the concatenation of all rows.
void update_elements(const engine::TensorTable& table, UpdateRange update, int64_t begin, int64_t end) {
  const auto& offsets = table.offsets;
  auto row = static_cast<size_t>(std::upper_bound(offsets.begin(), offsets.end(), begin) - offsets.begin() - 1);
  for (; begin < end; ++row) {
    const int64_t row_end = std::min(end, offsets[row + 1]);
    if (begin == row_end) continue; // a tensor without elements
    const auto& r = table.rows[row];
    update(r, table.hyperparameters[r.hyperparameters], begin - offsets[row], row_end - offsets[row]);
    begin = row_end;
  }
}

void update_table(const engine::TensorTable& table) {
  const UpdateRange update = kernels().update[static_cast<size_t>(table.rule)][static_cast<size_t>(table.elements)];
  const int64_t numel = table.numel();
  parallel_for(0, (numel + kUnit - 1) / kUnit, kElementsPerThread / kUnit, [&](int64_t first, int64_t last) {
    update_elements(table, update, first * kUnit, std::min(last * kUnit, numel));
  });
}

const engine::RegisterBackend registration(c10::DeviceType::CPU, {update_table, false, {}, kElementsPerThread});

} // namespace
} // namespace lerac_fast::cpu
