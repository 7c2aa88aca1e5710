// What a walk over the parameters leaves to be done, and its doing.
#pragma once

#include <pybind11/pybind11.h>
#include <utility>
#include <vector>

#include "engine/read_group.h"
#include "engine/scaling.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// A parameter in the order of the walk, and the Python objects that its row was made of. Borrowed.
struct Source {
  PyObject* param;
  PyObject* dict; // in the optimizer's state, or nullptr
  uint64_t dict_version = 0;
  std::array<PyObject*, kMaxStates> states{};
  PyObject* step = nullptr;  // state["step"], where the rule counts
  double count = kUncounted; // of this step, where the host counts
  int32_t table = -1;        // -1: it has no gradient, and no row
  int32_t row = 0;
  size_t place = 0; // of a DTensor among the known layouts

  bool has_row() const { return table >= 0; }

  // Calls visit(object) for all that its row's update writes but the gradient.
  template <typename Visit> void every_written(Visit visit) const {
    if (!has_row()) return;
    visit(param);
    for (PyObject* state : states) {
      if (state != nullptr) visit(state);
    }
    if (step != nullptr) visit(step);
  }
};

// The rows for the kernels and all that they take along.
struct Plan {
  // An operand whose elements do not lie in the row's order: it is updated through a dense copy.
  struct Scattered {
    at::Tensor original, dense;
    bool written;
  };
  struct Gradient {
    at::Tensor tensor;
    bool written;
  };

  std::vector<TensorTable> tables; // emptied, but kept: backends keep something there
  std::vector<Source> sources;     // of all parameters
  std::vector<Gradient> gradients;
  std::vector<pybind11::object> written; // gradients of DTensors that are unscaled
  std::vector<pybind11::object> held;    // what DTensors have in this process
  std::vector<Scattered> scattered;
  std::vector<std::pair<pybind11::object, pybind11::object>> first_states; // a dictionary in the state, what to put in

  TensorTable& table(at::Device device, Rule rule, Elements elements);
  // Where the elements of an operand lie in the order of the parameter's row.
  void* operand(const at::Tensor& tensor, const at::Tensor& param, bool written = true);
  void clear();          // the memory of tables, sources and groups is kept
  void release();        // what it owns, and the memory of it: between steps a plan keeps nothing alive
  bool is_brief() const; // its update may keep the GIL, so that nothing has to be held

  // Of a plan that is kept for the next step, which renews it if it can:
  struct Group {
    uint64_t version; // of the dictionary: no other has it
    PyObject* params; // borrowed
    Py_ssize_t size;  // of params
  };
  struct GroupPolicy {
    math::GroupNumbers numbers;
    Rule rule;
    bool capturable;
  };
  bool is_kept = false;
  bool is_unscaled = false, scaling_is_on_device = false; // the gradients; the loss scale that the kernels read
  uint64_t state_version = 0;                             // of the optimizer's state
  std::vector<Group> groups;
  std::vector<GroupPolicy> policies; // of the groups, apart from what is looked at in every step
};

// Has the kernels update all rows.
void run(Plan& plan, Scaling& scaling, bool keep_gil);

// Makes the update known: versions, step counts, and first states, which are put into the optimizer's only now, so that
// a backend that fails leaves no state that nobody has written. Runs no Python code, so that no Ctrl-C can come between
// the update and its state.
void hand_over(const Plan& plan);

} // namespace lerac_fast::engine
