// Every functional op on one screen. Shapes, units and errors stand with the public functions in lerac_fast/ops.
#include <torch/library.h>

TORCH_LIBRARY(lerac_fast, m) {
  m.def("gaussian_smooth(Tensor x, Tensor sigma, int kernel_size, int[] dims) -> Tensor");
  m.def("gaussian_smooth_(Tensor(a!) x, Tensor sigma, int kernel_size, int[] dims) -> Tensor(a!)");

  m.def("tempered_cross_entropy(Tensor logits, Tensor targets, Tensor sigma, Tensor? weight, str reduction, "
        "float label_smoothing, int ignore_index) -> Tensor");
  // The result, and what the backward pass needs to know of every row: statistics [rows, 4].
  m.def("_tempered_cross_entropy(Tensor logits, Tensor targets, Tensor sigma, Tensor? weight, str reduction, "
        "float label_smoothing, int ignore_index) -> (Tensor, Tensor)");
  m.def("_tempered_cross_entropy_backward(Tensor gradient, Tensor logits, Tensor targets, Tensor sigma, "
        "Tensor? weight, Tensor statistics, float label_smoothing, int ignore_index) -> (Tensor, Tensor)");
}
