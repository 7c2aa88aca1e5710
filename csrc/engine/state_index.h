// Finds the state dictionaries of parameters without hashing tensors: Tensor.__hash__ is a Python function.
#pragma once

#include <cstdint>
#include <pybind11/pybind11.h>
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
  std::vector<uint32_t> by_param_;                     // places of the items, in the order of the parameters' addresses
  uint64_t generation_ = 1;
};

// The parameters of a walk in its order, with their state dictionaries. What the last walk met at the same place spares
// the look-up where neither has moved.
class KnownParameters {
 public:
  // Before a walk over so many parameters.
  void begin(PyObject* state, size_t params);
  // The state dictionary of the next parameter, as StateIndex has it.
  PyObject* next(PyObject* param);
  // ValueError where a parameter came twice: rows are updated at the same time, so a tensor must have one row only.
  void end();

 private:
  StateIndex index_;
  std::vector<std::pair<PyObject*, PyObject*>> known_;
  size_t walked_ = 0;
  uint64_t generation_ = 0; // of the index that the known dictionaries are from
  bool none_twice_ = true;  // checked for the parameters as they are
};

} // namespace lerac_fast::engine
