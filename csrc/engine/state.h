// The state that an optimizer keeps for one parameter.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "engine/parameter.h"
#include "engine/rules.h"

namespace lerac_fast::engine {

// What of a state the kernels do not serve, and why.
struct Unserved {
  const char* state = nullptr;
  const char* reason = nullptr; // nullptr: they serve it

  // "its state 'exp_avg': a tensor subclass with its own dispatch".
  std::string describe() const { return std::string("its state '") + state + "': " + reason; }
};

// Python tensors, borrowed from the state's dictionary.
struct State {
  std::array<PyObject*, kMaxStates> tensors{}; // those of the rule, in the order of Row::states
  std::array<PyObject*, kMaxStates> locals{};  // what they have in this process: themselves, unless they are DTensors
  PyObject* step = nullptr;
  Unserved unserved; // the first: nothing behind it was checked
};

// Fills `read` with the state that `rule` needs, from a dictionary (perhaps nullptr); or with nothing where it holds
// none of it yet. It is filled where it lies, as copying it costs. ValueError where the state is incomplete or does not
// fit the parameter. Of a DTensor, the caller has to find the locals and to check them. Runs no Python code, nor does
// any function here that says nothing else.
void read_state(const Parameter& parameter, Rule rule, PyObject* dict, std::optional<State>& read);

// ValueError where the locals or the step count do not fit the parameter. Finds what is not served.
void check_state(const Parameter& parameter, Rule rule, State& state);

// The state before a rule's first step, as torch makes it; its count lies on `count_device`. Runs Python code.
pybind11::dict new_state(Rule rule, pybind11::handle param, at::Device count_device);

// Puts the count of a rule's steps into a state's dictionary: a new tensor, filled on its device.
void set_new_count(Rule rule, PyObject* dict, double value, at::Device device);

// The value of a step count on the CPU, which check_state has checked.
double step_count(const at::Tensor& step);
void set_step_count(const at::Tensor& step, double value);

} // namespace lerac_fast::engine
