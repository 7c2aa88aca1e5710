// Every functional op on one screen. Shapes, units and errors stand with the public functions in lerac_fast/ops.
#include <torch/library.h>

TORCH_LIBRARY(lerac_fast, m) {
  m.def("gaussian_smooth(Tensor x, Tensor sigma, int kernel_size, int[] dims) -> Tensor");
  m.def("gaussian_smooth_(Tensor(a!) x, Tensor sigma, int kernel_size, int[] dims) -> Tensor(a!)");
}
