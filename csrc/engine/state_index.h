// Finds the state dictionaries of parameters without hashing tensors: Tensor.__hash__ is a Python function.
#pragma once

#include <cstdint>
#include <pybind11/pybind11.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lerac_fast::engine {

// An index of `optimizer.state` by the parameters' addresses. `refresh` compares it with the live dictionary, item by
// item, and rebuilds it where a parameter or a state dictionary was added, removed or replaced.
class StateIndex {
 public:
  // Brings the index up to date with the live dictionary.
  void refresh(PyObject* state);

  // Another number after every refresh that found a change.
  uint64_t generation() const { return generation_; }

  // The state dictionary of a parameter, borrowed, or nullptr. Valid until Python code runs.
  PyObject* find(PyObject* param) const;

 private:
  std::vector<std::pair<PyObject*, PyObject*>> items_; // compared, never dereferenced
  std::unordered_map<PyObject*, PyObject*> by_param_;
  uint64_t generation_ = 1;
};

} // namespace lerac_fast::engine
