// What the engine reads of one parameter, and the checks it must pass before anything is changed.
#pragma once

#include <ATen/core/Tensor.h>
#include <array>
#include <span>

#include "engine/hyperparameters.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// A parameter and where it stands, for messages: "param group 3 ('conv'), parameter 0 of shape [64, 3]".
struct Parameter {
  const Group& group;
  Py_ssize_t index;
  const at::Tensor& tensor;

  std::string describe() const;
};

// The keys of the state tensors that a rule reads and writes, in the order of Row::states.
std::span<const Key> state_keys(Rule rule);
// The key of the step count, or nullptr for rules that count no steps.
const Key* step_key(Rule rule);

// The state of one parameter. Tensors are borrowed from its state dictionary.
struct State {
  std::array<const at::Tensor*, kMaxStates> tensors{};
  const at::Tensor* step = nullptr;
};

// ValueError where the gradient's shape, dtype or device is not the parameter's.
void check_gradient(const Parameter& parameter, const at::Tensor& gradient);

// ValueError where the parameter cannot be written in place.
void check_writable(const Parameter& parameter);

// Reads the state that `rule` needs; false where the dictionary (perhaps nullptr) holds none of it yet. ValueError where
// it is incomplete or does not fit the parameter.
bool read_state(const Parameter& parameter, Rule rule, PyObject* dict, State& state);

// The value of a step count.
double step_count(const at::Tensor& step);
void set_step_count(const at::Tensor& step, double value);

} // namespace lerac_fast::engine
