// What a walk over the parameters leaves to be done, and its doing.
#pragma once

#include <pybind11/pybind11.h>
#include <utility>
#include <vector>

#include "engine/scaling.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// The rows for the kernels and all that they take along. Operands are held so that they stay alive while the GIL is
// released: parameters and states by their Python objects, as taking another C++ reference to a tensor that Python owns
// is slow.
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

  std::vector<TensorTable> tables;       // emptied, but kept: backends keep something there
  std::vector<pybind11::object> written; // parameters, states, and gradients of DTensors that are unscaled
  std::vector<pybind11::object> held;    // what DTensors have in this process
  std::vector<Gradient> gradients;
  std::vector<std::pair<pybind11::object, double>> step_counts; // `state["step"]` and its next value
  std::vector<Scattered> scattered;
  std::vector<std::pair<pybind11::object, pybind11::object>> first_states; // a dictionary in the state, what to put in

  TensorTable& table(at::Device device, Rule rule, Elements elements);
  // Where the elements of an operand lie in the order of the parameter's row.
  void* operand(const at::Tensor& tensor, const at::Tensor& param, bool written = true);
  void clear(); // memory is kept
};

// Has the kernels update all rows, without the GIL.
void run(Plan& plan, Scaling& scaling);

// Makes the update known: versions, step counts, and first states, which are put into the optimizer's only now, so that
// a backend that fails leaves no state that nobody has written. Runs no Python code, so that no Ctrl-C can come between
// the update and its state.
void hand_over(const Plan& plan);

} // namespace lerac_fast::engine
