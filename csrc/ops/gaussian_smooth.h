// What the backends of gaussian_smooth share.
#pragma once

#include <ATen/core/Tensor.h>

namespace lerac_fast::ops {

// Throws ValueError where the arguments make no sense. Reads no element, so it serves tensors without data, too.
void check_gaussian_smooth(const at::Tensor& x, const at::Tensor& sigma, int64_t kernel_size, at::IntArrayRef dims);

// The width of the Gaussian in a tensor on the CPU. Throws ValueError if it is negative or not a number.
double read_sigma(const at::Tensor& sigma);

} // namespace lerac_fast::ops
