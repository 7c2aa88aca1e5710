// What the backends of gaussian_smooth share.
#pragma once

#include <ATen/core/Tensor.h>

namespace lerac_fast::ops {

// Throws ValueError where the arguments make no sense. Reads no element, so it serves tensors without data, too.
void check_gaussian_smooth(const at::Tensor& x, const at::Tensor& sigma, int64_t kernel_size, at::IntArrayRef dims);

// The normalised weights w(0), w(1), ... of the kernel, as far as they are not zero in the arithmetic's type and reach
// a neighbour at all; w(0) alone is the identity. `sigma` is on the CPU. Throws ValueError if it is negative or not a
// number.
std::vector<double> gaussian_weights(const at::Tensor& x, const at::Tensor& sigma, int64_t kernel_size,
                                     at::IntArrayRef dims);

} // namespace lerac_fast::ops
