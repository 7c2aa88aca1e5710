// The optimizer step on CUDA devices: one table, on torch's current stream of its device.
#include <ATen/ops/empty.h>

#include "cuda/current.h"
#include "cuda/optimizer_step_kernels.h"
#include "engine/backend.h"

namespace lerac_fast::cuda {
namespace {

void update_table(engine::TensorTable& table) {
  const OnDevice current(table.device);
  const Update update{table.rule,
                      table.elements,
                      table.rows.data(),
                      table.offsets.data(),
                      int64_t(table.rows.size()),
                      table.hyperparameters.data(),
                      table.rates.data(),
                      table.scaling.grad_scale,
                      table.scaling.found_inf};
  at::Tensor workspace; // given back to the stream, which runs what needs it first
  if (const size_t bytes = workspace_of(update); bytes > 0)
    workspace = at::empty({int64_t(bytes)}, at::TensorOptions().dtype(at::kByte).device(table.device));
  launch_update(update, workspace.defined() ? workspace.mutable_data_ptr() : nullptr, current.stream());
}

const engine::RegisterBackend registration(c10::DeviceType::LERAC_FAST_CUDA_KEY,
                                           {update_table, is_asynchronous(), is_capturing, 0, driver_versions});

} // namespace
} // namespace lerac_fast::cuda
