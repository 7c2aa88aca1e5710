// The state that an optimizer keeps for one parameter.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "engine/parameter.h"
#include "engine/rules.h"

namespace lerac_fast::engine {

// Python tensors, borrowed from the state's dictionary.
struct State {
  std::array<PyObject*, kMaxStates> tensors{}; // those of the rule, in the order of Row::states
  PyObject* step = nullptr;
  // The first that why_unreachable has a reason for, and the reason: nothing behind it was checked.
  const char* unreachable = nullptr;
  const char* unreachable_reason = nullptr;
};

// The state that `rule` needs, from a dictionary (perhaps nullptr); nothing where it holds none of it yet. ValueError
// where it is incomplete or does not fit the parameter. Runs no Python code.
std::optional<State> read_state(const Parameter& parameter, Rule rule, PyObject* dict);

// "its state 'exp_avg': a tensor subclass with its own dispatch".
std::string describe_unreachable(const State& state);

// The state before a rule's first step, as torch makes it; its count lies on `count_device`.
pybind11::dict new_state(Rule rule, const at::Tensor& param, at::Device count_device);

// Puts the count of a rule's steps into a state's dictionary: a new tensor, filled on its device.
void set_new_count(Rule rule, PyObject* dict, double value, at::Device device);

// The value of a step count on the CPU, which read_state has checked.
double step_count(const at::Tensor& step);
void set_step_count(const at::Tensor& step, double value);

} // namespace lerac_fast::engine
