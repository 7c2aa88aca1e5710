// One parameter, and the checks that it must pass before anything is changed.
#pragma once

#include <ATen/core/Tensor.h>
#include <string>

#include "engine/group.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// A parameter and where it stands, for messages: "param group 3 ('conv'), parameter 0, float32 of shape [64, 3] on
// cpu".
struct Parameter {
  const Group& group;
  Py_ssize_t index;
  const at::Tensor& tensor; // of a DTensor, what this process has
  bool is_dtensor;

  std::string describe() const;
};

// "float32 of shape [3, 4] on cpu".
std::string show(const at::Tensor& tensor);

// ValueError where the gradient's shape, dtype or device is not the parameter's.
void check_gradient(const Parameter& parameter, const at::Tensor& gradient);

// ValueError where a parameter or its state (`what`) has elements that share memory, so that it cannot be updated.
void check_writable(const Parameter& parameter, const at::Tensor& tensor, const char* what);

// AssertionError where no graph can capture the steps of the parameter's device, as in torch.
void check_capturable(const Parameter& parameter);

} // namespace lerac_fast::engine
