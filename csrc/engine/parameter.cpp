#include "engine/parameter.h"

#include <ATen/MemoryOverlap.h>
#include <sstream>
#include <torch/csrc/Dtype.h>
#include <torch/csrc/DynamicTypes.h>

#include "engine/backend.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

template <typename T> std::string text(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

} // namespace

std::string show(const at::Tensor& tensor) {
  return std::string(torch::getTHPDtype(tensor.scalar_type())->name) + " of shape " + text(tensor.sizes()) + " on " +
         text(tensor.device());
}

std::string Parameter::describe() const {
  return group.describe() + ", parameter " + std::to_string(index) + ", " + show(tensor) +
         (is_dtensor ? ", a DTensor's part in this process" : "");
}

void check_gradient(const Parameter& parameter, const at::Tensor& gradient) {
  const at::Tensor& param = parameter.tensor;
  if (same_shape(gradient, param) && gradient.scalar_type() == param.scalar_type() &&
      gradient.device() == param.device()) {
    return;
  }
  throw py::value_error(parameter.describe() + ": its gradient is " + show(gradient) +
                        ". Make the gradient like the parameter before step()");
}

void check_writable(const Parameter& parameter, const at::Tensor& tensor, const char* what) {
  if (tensor.is_non_overlapping_and_dense() || at::has_internal_overlap(tensor) != at::MemOverlap::Yes) return;
  throw py::value_error(parameter.describe() + ": " + what + " with strides " + text(tensor.strides()) +
                        " has elements that share memory. Make it .contiguous()");
}

void check_capturable(const Parameter& parameter) {
  if (is_asynchronous(parameter.tensor.device().type())) return;
  const std::string message = parameter.describe() +
                              ": capturable=True is for devices whose steps a graph can capture, "
                              "such as cuda. Leave capturable out";
  PyErr_SetString(PyExc_AssertionError, message.c_str());
  throw py::error_already_set();
}

} // namespace lerac_fast::engine
