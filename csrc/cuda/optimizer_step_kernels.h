// The optimizer step on a GPU: kernels and their launches, without torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/launches.h"
#include "engine/rules.h"

namespace lerac_fast::cuda {

// One kind of update of many tensors; see engine::TensorTable, whose names these are.
struct Update {
  engine::Rule rule;
  engine::Elements elements;
  const engine::Row* rows;
  const int64_t* offsets;
  int64_t count;
  const math::Hyperparameters* hyperparameters;
  const engine::DeviceNumber* rates;
  const float* grad_scale;
  const float* found_inf;

  const math::Hyperparameters& numbers(int64_t row) const { return hyperparameters[rows[row].hyperparameters]; }
  int64_t numel(int64_t row) const { return offsets[row + 1] - offsets[row]; }
  // Some of its numbers are known to the device alone.
  bool is_deferred() const;
};

// Bytes of device memory that a deferred update needs while it runs, aligned to 16; else 0.
size_t workspace_of(const Update& update);

// The driver of this machine, and the oldest that takes as many arguments as the kernels were compiled for.
engine::DriverVersions driver_versions();

// Queues the update on the current device: one launch, or as many as its tensors need kernel arguments (391 of them
// with rates of their own take one). Before each stand, if it is deferred, launches of one thread per tensor, which
// read the device's numbers and count steps. Throws std::runtime_error where a launch fails.
void launch_update(const Update& update, void* workspace, void* stream);

} // namespace lerac_fast::cuda
