// What the engine reads of one parameter, and the checks it must pass before anything is changed.
#pragma once

#include <ATen/core/Tensor.h>
#include <array>
#include <optional>
#include <span>

#include "engine/group.h"
#include "engine/keys.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// A parameter and where it stands, for messages: "param group 3 ('conv'), parameter 0, float32 of shape [64, 3] on
// cpu".
struct Parameter {
  const Group& group;
  Py_ssize_t index;
  const at::Tensor& tensor;

  std::string describe() const;
};

// The keys of state dictionaries that the engine reads.
enum class StateField : size_t { kStep, kMomentumBuffer, kExpAvg, kExpAvgSq, kMaxExpAvgSq, kExpInf };
inline constexpr std::array kStateNames{"step",       "momentum_buffer", "exp_avg",
                                        "exp_avg_sq", "max_exp_avg_sq",  "exp_inf"};
Keys<StateField, kStateNames.size()>& state_keys();

// The state tensors that a rule reads and writes, in the order of Row::states.
std::span<const StateField> state_fields(Rule rule);
// Whether a rule counts its steps in `state["step"]`.
inline bool counts_steps(Rule rule) { return rule != Rule::kSgd && rule != Rule::kSgdMomentum; }

// The state of one parameter: Python tensors, borrowed from its state dictionary.
struct State {
  std::array<PyObject*, kMaxStates> tensors{};
  PyObject* step = nullptr;
  // The first that why_unreachable has a reason for, and the reason: nothing behind it was checked.
  const char* unreachable_reason = nullptr;
  StateField unreachable{};
};

// ValueError where the gradient's shape, dtype or device is not the parameter's.
void check_gradient(const Parameter& parameter, const at::Tensor& gradient);

// ValueError where a parameter or its state (`what`) has elements that share memory, so that it cannot be updated.
void check_writable(const Parameter& parameter, const at::Tensor& tensor, const char* what);

// The state that `rule` needs, from a state dictionary (perhaps nullptr); nothing where it holds none of it yet.
// ValueError where it is incomplete or does not fit the parameter. Runs no Python code.
std::optional<State> read_state(const Parameter& parameter, Rule rule, PyObject* dict);

// "its state 'exp_avg': a tensor subclass with its own dispatch".
std::string describe_unreachable(const State& state);

// Whether the kernels of a device read this number where it lies: one plain float32 or float64 number there, and
// kernels that run when the host has gone on.
bool is_device_number(const at::Tensor& number, at::Device device);
DeviceNumber device_number(const at::Tensor& number);

// The value of a step count on the CPU, which read_state has checked.
double step_count(const at::Tensor& step);
void set_step_count(const at::Tensor& step, double value);

} // namespace lerac_fast::engine
