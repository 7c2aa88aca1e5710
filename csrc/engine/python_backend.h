// A backend that is written in Python: it gets a table as arrays of numbers.
#pragma once

#include <pybind11/pybind11.h>

#include "engine/backend.h"

namespace lerac_fast::engine {

// A TensorTable as Python sees it. Arrays are the bytes of numbers, so that comparing them with the last step's is
// cheap.
struct PackedTable {
  at::Device device;
  Rule rule;
  Elements elements;
  // int64 [rows, 9]: addresses of the parameter, the gradient and three states (or 0), numel, which of `numbers`, the
  // address of the step count on the device (or 0), and whether that is a double.
  pybind11::bytes rows;
  // float64 [n, numbers]: all of math::Hyperparameters, in its order.
  pybind11::bytes numbers;
  // int64 [n, 2]: the address of each lr on the device (or 0), and whether that is a double.
  pybind11::bytes rates;
  int64_t grad_scale, found_inf; // addresses on the device, or 0
  pybind11::object kept;         // what the backend left here at the last step, or None
};

// `update` is called with a PackedTable, `is_capturing` with a device; both with the GIL.
Backend python_backend(pybind11::function update, pybind11::function is_capturing, bool asynchronous);

} // namespace lerac_fast::engine
