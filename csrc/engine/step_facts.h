// What one step knows, however many walks over the parameters it takes.
#pragma once

#include <optional>
#include <pybind11/pybind11.h>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/scaling.h"

namespace lerac_fast::engine {

// A state that was made for a parameter and is not yet in the optimizer's.
struct FirstState {
  pybind11::object param, dict;
};

// A gradient that was laid out over processes as its parameter is.
struct Redistributed {
  pybind11::object param, original, gradient;
};

struct StepFacts {
  Scaling scaling;
  std::unordered_map<PyObject*, pybind11::object> stepped_by_parent;
  std::unordered_map<PyObject*, FirstState> first_states;
  std::unordered_map<PyObject*, Redistributed> redistributed;
  std::vector<std::pair<at::Device, bool>> capturing; // devices, and whether a graph captures what is queued there

  bool overflown() const { return scaling.is_known() && scaling.overflown(); }
  // The state that this step made for a parameter, or nullptr.
  PyObject* first_state_of(PyObject* param) const;
  // The gradient that this step is to use in place of a parameter's own, or nullptr.
  PyObject* redistributed_of(PyObject* param, PyObject* original) const;
  // Nothing, where it was not asked.
  std::optional<bool> is_capturing(at::Device device) const;
  // Once a step and device. This may run Python code.
  void ask_whether_captures(at::Device device);
};

} // namespace lerac_fast::engine
