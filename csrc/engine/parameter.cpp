#include "engine/parameter.h"

#include <ATen/MemoryOverlap.h>
#include <sstream>
#include <torch/csrc/autograd/python_variable.h>

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

template <typename T> std::string text(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

const Key& step() {
  static const Key key("step");
  return key;
}

// The tensor under `key`, or nullptr where the dictionary has none: SGD may hold a momentum_buffer that is None.
const at::Tensor* find_tensor(const Parameter& parameter, PyObject* dict, const Key& key) {
  PyObject* object = key.find(dict);
  if (object == nullptr || object == Py_None) return nullptr;
  if (THPVariable_Check(object)) return &THPVariable_Unpack(object);
  throw py::type_error(parameter.describe() + ": state '" + key.text() + "' must be a tensor, got " +
                       std::string(py::repr(object)));
}

void check_state(const Parameter& parameter, const Key& key, const at::Tensor& state, at::ScalarType dtype) {
  const at::Tensor& param = parameter.tensor;
  if (state.sizes() == param.sizes() && state.scalar_type() == dtype && state.device() == param.device() &&
      elements_of(param.scalar_type(), dtype)) {
    return;
  }
  throw py::value_error(parameter.describe() + ", " + text(param.scalar_type()) + " on " + text(param.device()) +
                        ": state '" + key.text() + "' of shape " + text(state.sizes()) + ", " +
                        text(state.scalar_type()) + " on " + text(state.device()) +
                        " does not fit it. Load a state that fits, or delete optimizer.state[parameter] to start anew");
}

void check_step(const Parameter& parameter, const at::Tensor& count) {
  const bool floating = count.scalar_type() == at::kFloat || count.scalar_type() == at::kDouble;
  if (count.numel() == 1 && floating && count.is_cpu()) return;
  throw py::value_error(parameter.describe() + ": state 'step' must be one float32 or float64 number on the CPU, got " +
                        text(count.sizes()) + ", " + text(count.scalar_type()) + " on " + text(count.device()));
}

} // namespace

std::string Parameter::describe() const {
  return group.describe() + ", parameter " + std::to_string(index) + " of shape " + text(tensor.sizes());
}

std::span<const Key> state_keys(Rule rule) {
  static const std::array sgd{Key("momentum_buffer")};
  static const std::array adam{Key("exp_avg"), Key("exp_avg_sq"), Key("max_exp_avg_sq")};
  static const std::array adamax{Key("exp_avg"), Key("exp_inf")};
  switch (rule) {
    case Rule::kSgdMomentum:
      return sgd;
    case Rule::kAdam:
      return std::span(adam).first(2);
    case Rule::kAdamAmsgrad:
      return adam;
    case Rule::kAdamax:
      return adamax;
    default:
      return {};
  }
}

const Key* step_key(Rule rule) { return rule == Rule::kSgd || rule == Rule::kSgdMomentum ? nullptr : &step(); }

void check_gradient(const Parameter& parameter, const at::Tensor& gradient) {
  const at::Tensor& param = parameter.tensor;
  if (gradient.sizes() == param.sizes() && gradient.scalar_type() == param.scalar_type() &&
      gradient.device() == param.device()) {
    return;
  }
  throw py::value_error(parameter.describe() + ", " + text(param.scalar_type()) + " on " + text(param.device()) +
                        ", has a gradient of shape " + text(gradient.sizes()) + ", " + text(gradient.scalar_type()) +
                        " on " + text(gradient.device()) + ". Make the gradient like the parameter before step()");
}

void check_writable(const Parameter& parameter) {
  if (parameter.tensor.is_non_overlapping_and_dense()) return;
  if (at::has_internal_overlap(parameter.tensor) == at::MemOverlap::Yes) {
    throw py::value_error(parameter.describe() + " and strides " + text(parameter.tensor.strides()) +
                          " has elements that share memory. Make it .contiguous() before it is optimized");
  }
}

bool read_state(const Parameter& parameter, Rule rule, PyObject* dict, State& state) {
  if (dict == nullptr) return false;
  if (!PyDict_Check(dict)) throw py::type_error(parameter.describe() + ": its state must be a dict");
  const auto keys = state_keys(rule);
  const Key* const count = step_key(rule);
  size_t found = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    state.tensors[i] = find_tensor(parameter, dict, keys[i]);
    found += state.tensors[i] != nullptr;
  }
  if (count != nullptr) state.step = find_tensor(parameter, dict, *count);
  if (found == 0 && state.step == nullptr) return false;

  for (size_t i = 0; i < keys.size(); ++i) {
    if (state.tensors[i] == nullptr) {
      throw py::value_error(parameter.describe() + ": its state has no '" + keys[i].text() +
                            "'. Delete optimizer.state[parameter] to start anew");
    }
    check_state(parameter, keys[i], *state.tensors[i], state.tensors[0]->scalar_type());
  }
  if (count != nullptr) {
    if (state.step == nullptr) throw py::value_error(parameter.describe() + ": its state has no 'step'");
    check_step(parameter, *state.step);
  }
  return true;
}

double step_count(const at::Tensor& step) {
  return step.scalar_type() == at::kFloat ? *step.const_data_ptr<float>() : *step.const_data_ptr<double>();
}

void set_step_count(const at::Tensor& step, double value) {
  if (step.scalar_type() == at::kFloat) {
    *step.mutable_data_ptr<float>() = static_cast<float>(value);
  } else {
    *step.mutable_data_ptr<double>() = value;
  }
}

} // namespace lerac_fast::engine
