// A param group as one walk reads it.
#pragma once

#include <optional>
#include <vector>

#include "engine/group.h"
#include "engine/hyperparameters.h"

namespace lerac_fast::engine {

struct ReadGroup {
  Group group;
  pybind11::object dict, params; // owned
  uint64_t version;              // of the dictionary that was read
  Py_ssize_t size = 0;           // of params, as they were walked over
  math::GroupNumbers numbers;
  Rule rule;
  bool capturable;
  at::Tensor rate;                    // a number on a device, where kernels read it; undefined: it is among the numbers
  std::optional<double> rate_on_host; // for parameters elsewhere

  // Waits for the device that the rate lies on, once.
  double read_rate();
};

// This may run Python code: what is read is owned from here on.
std::vector<ReadGroup> read_groups(Optimizer optimizer, PyObject* param_groups);

} // namespace lerac_fast::engine
