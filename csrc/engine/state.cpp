#include "engine/state.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <vector>

#include "engine/dtensor.h"
#include "engine/keys.h"
#include "engine/python_tensor.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

// The keys of a rule's states stand at their indices, and behind them:
constexpr int kStep = kMaxStates;

const char* name_of(Rule rule, int key) { return key == kStep ? "step" : facts_of(rule).state_names[key]; }

using StateKeys = Keys<int, kMaxStates + 1>;
StateKeys& keys_of(Rule rule) {
  static std::vector<StateKeys> keys = [] {
    std::vector<StateKeys> of_rules;
    for (int r = 0; r < kRules; ++r) {
      std::array<const char*, kMaxStates + 1> names;
      for (int key = 0; key <= kStep; ++key) names[key] = name_of(Rule(r), key);
      of_rules.emplace_back(names);
    }
    return of_rules;
  }();
  return keys[static_cast<size_t>(rule)];
}

// The tensor under a key, or nullptr where the dictionary has none: SGD may hold a momentum_buffer that is None.
PyObject* find_tensor(const Parameter& parameter, Rule rule, StateKeys& keys, PyObject* dict, int key) {
  PyObject* object = keys.find(dict, key);
  if (object == nullptr || object == Py_None) return nullptr;
  if (is_tensor(object)) return object;
  throw py::type_error(parameter.describe() + ": state '" + name_of(rule, key) + "' must be a tensor, got " +
                       std::string(py::repr(object)));
}

void check_moment(const Parameter& parameter, const char* name, const at::Tensor& state, at::ScalarType dtype) {
  const at::Tensor& param = parameter.tensor;
  if (same_shape(state, param) && state.scalar_type() == dtype && state.device() == param.device() &&
      elements_of(param.scalar_type(), dtype)) {
    return check_writable(parameter, state, name);
  }
  throw py::value_error(
      parameter.describe() + ": state '" + name + "' is " + show(state) +
      " and does not fit. Load a state that fits, or delete optimizer.state[parameter] to start anew");
}

void check_step(const Parameter& parameter, const at::Tensor& count) {
  if (count.numel() == 1 && !count.is_complex()) {
    if (count.is_cpu()) return;
    if (count.device() == parameter.tensor.device() && is_device_number(count, count.device())) return;
  }
  throw py::value_error(parameter.describe() + ": state 'step' must be one real number on the CPU, or float32 or " +
                        "float64 on the parameter's device, got " + show(count));
}

[[noreturn]] void refuse_incomplete(const Parameter& parameter, Rule rule, const State& state) {
  int missing = kStep;
  for (int i = facts_of(rule).states; i-- > 0;) {
    if (state.tensors[i] == nullptr) missing = i;
  }
  throw py::value_error(parameter.describe() + ": its state has no '" + name_of(rule, missing) +
                        "'. Delete optimizer.state[parameter] to start anew");
}

inline void check(const Parameter& parameter, Rule rule, State& state) {
  const RuleFacts& facts = facts_of(rule);
  const auto is_reachable = [&](const at::Tensor& tensor, int key) {
    const char* const reason = why_unreachable(tensor);
    if (reason != nullptr) state.unserved = {name_of(rule, key), reason};
    return reason == nullptr;
  };
  const auto dtype = THPVariable_Unpack(state.locals[0]).scalar_type();
  for (int i = 0; i < facts.states; ++i) {
    const at::Tensor& tensor = THPVariable_Unpack(state.locals[i]);
    if (!is_reachable(tensor, i)) return;
    check_moment(parameter, name_of(rule, i), tensor, dtype);
  }
  if (!facts.counts_steps) return;
  const at::Tensor& step = THPVariable_Unpack(state.step);
  if (is_reachable(step, kStep)) check_step(parameter, step);
}

at::ScalarType type_of_counts() { // torch's
  return c10::get_default_dtype_as_scalartype() == at::kDouble ? at::kDouble : at::kFloat;
}

} // namespace

void read_state(const Parameter& parameter, Rule rule, PyObject* dict, std::optional<State>& read) {
  const RuleFacts& facts = facts_of(rule);
  read.reset();
  if (dict == nullptr || facts.states == 0) return;
  if (!PyDict_Check(dict)) throw py::type_error(parameter.describe() + ": its state must be a dict");
  StateKeys& keys = keys_of(rule);
  State& state = read.emplace();
  bool any = false, all = true;
  const auto find = [&](int key) {
    PyObject* const tensor = find_tensor(parameter, rule, keys, dict, key);
    any |= tensor != nullptr;
    all &= tensor != nullptr;
    return tensor;
  };
  for (int i = 0; i < facts.states; ++i) state.tensors[i] = state.locals[i] = find(i);
  if (facts.counts_steps) state.step = find(kStep);
  if (!any) return read.reset();
  if (!all) refuse_incomplete(parameter, rule, state);
  if (!parameter.is_dtensor) check(parameter, rule, state);
}

void check_state(const Parameter& parameter, Rule rule, State& state) { check(parameter, rule, state); }

py::dict new_state(Rule rule, py::handle param, at::Device count_device) {
  py::dict state;
  if (facts_of(rule).counts_steps) set_new_count(rule, state.ptr(), 0, count_device);
  for (int i = 0; i < facts_of(rule).states; ++i) {
    const py::object zeros = to_python(at::zeros_like(THPVariable_Unpack(param.ptr()), at::MemoryFormat::Preserve));
    share_spec(zeros, param);
    keys_of(rule).set(state.ptr(), i, zeros.ptr());
  }
  return state;
}

void set_new_count(Rule rule, PyObject* dict, double value, at::Device device) {
  const auto options = at::TensorOptions().dtype(type_of_counts()).device(device);
  keys_of(rule).set(dict, kStep, to_python(at::full({}, value, options)).ptr());
}

double step_count(const at::Tensor& step) {
  return step.scalar_type() == at::kFloat ? *static_cast<const float*>(step.const_data_ptr()) : step.item().toDouble();
}

void set_step_count(const at::Tensor& step, double value) {
  if (step.scalar_type() == at::kFloat) { // as torch makes it; the general way is slow
    *static_cast<float*>(step.mutable_data_ptr()) = static_cast<float>(value);
  } else {
    step.fill_(value);
  }
}

} // namespace lerac_fast::engine
