// How gaussian_smooth goes through a tensor, on every device: finds the planes in its memory, whatever its layout.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "ops/plane.h"

namespace lerac_fast::ops {

// The sweeps that smooth `x`, which is dense and does not overlap, along `dims`: each along one axis, or along two that
// lie next to each other in memory.
std::vector<Sweep> sweeps_over(const at::Tensor& x, at::IntArrayRef dims);

} // namespace lerac_fast::ops
