#include "engine/parameter.h"

#include <ATen/MemoryOverlap.h>
#include <sstream>
#include <torch/csrc/Dtype.h>
#include <torch/csrc/DynamicTypes.h>

#include "engine/backend.h"
#include "engine/python_tensor.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

template <typename T> std::string text(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

// "float32 of shape [3, 4] on cpu".
std::string show(const at::Tensor& tensor) {
  return std::string(torch::getTHPDtype(tensor.scalar_type())->name) + " of shape " + text(tensor.sizes()) + " on " +
         text(tensor.device());
}

const char* name_of(StateField field) { return kStateNames[static_cast<size_t>(field)]; }

// The tensor of a field, or nullptr where the dictionary has none: SGD may hold a momentum_buffer that is None.
PyObject* find_tensor(const Parameter& parameter, PyObject* dict, StateField field) {
  PyObject* object = state_keys().find(dict, field);
  if (object == nullptr || object == Py_None) return nullptr;
  if (is_tensor(object)) return object;
  throw py::type_error(parameter.describe() + ": state '" + name_of(field) + "' must be a tensor, got " +
                       std::string(py::repr(object)));
}

void check_state(const Parameter& parameter, StateField field, const at::Tensor& state, at::ScalarType dtype) {
  const at::Tensor& param = parameter.tensor;
  if (same_shape(state, param) && state.scalar_type() == dtype && state.device() == param.device() &&
      elements_of(param.scalar_type(), dtype)) {
    return check_writable(parameter, state, name_of(field));
  }
  throw py::value_error(
      parameter.describe() + ": state '" + name_of(field) + "' is " + show(state) +
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

} // namespace

std::string Parameter::describe() const {
  return group.describe() + ", parameter " + std::to_string(index) + ", " + show(tensor);
}

Keys<StateField, kStateNames.size()>& state_keys() {
  static Keys<StateField, kStateNames.size()> keys(kStateNames);
  return keys;
}

std::span<const StateField> state_fields(Rule rule) {
  using Field = StateField;
  static constexpr std::array sgd{Field::kMomentumBuffer};
  static constexpr std::array adam{Field::kExpAvg, Field::kExpAvgSq, Field::kMaxExpAvgSq};
  static constexpr std::array adamax{Field::kExpAvg, Field::kExpInf};
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

void check_gradient(const Parameter& parameter, const at::Tensor& gradient) {
  const at::Tensor& param = parameter.tensor;
  if (same_shape(gradient, param) && gradient.scalar_type() == param.scalar_type() &&
      gradient.device() == param.device()) {
    return;
  }
  throw py::value_error(parameter.describe() + ": its gradient is " + show(gradient) +
                        ". Make the gradient like the parameter before step()");
}

void check_writable(const Parameter& parameter, const at::Tensor& tensor, const char* what) {
  if (tensor.is_non_overlapping_and_dense() || at::has_internal_overlap(tensor) != at::MemOverlap::Yes) return;
  throw py::value_error(parameter.describe() + ": " + what + " with strides " + text(tensor.strides()) +
                        " has elements that share memory. Make it .contiguous()");
}

std::optional<State> read_state(const Parameter& parameter, Rule rule, PyObject* dict) {
  const auto fields = state_fields(rule);
  if (dict == nullptr || fields.empty()) return std::nullopt;
  if (!PyDict_Check(dict)) throw py::type_error(parameter.describe() + ": its state must be a dict");
  State state;
  bool any = false;
  for (size_t i = 0; i < fields.size(); ++i) {
    state.tensors[i] = find_tensor(parameter, dict, fields[i]);
    any |= state.tensors[i] != nullptr;
  }
  if (counts_steps(rule)) {
    state.step = find_tensor(parameter, dict, StateField::kStep);
    any |= state.step != nullptr;
  }
  if (!any) return std::nullopt;

  const auto check_present = [&](PyObject* tensor, StateField field) {
    if (tensor != nullptr) return;
    throw py::value_error(parameter.describe() + ": its state has no '" + name_of(field) +
                          "'. Delete optimizer.state[parameter] to start anew");
  };
  const auto is_reachable = [&](PyObject* tensor, StateField field) {
    check_present(tensor, field);
    state.unreachable_reason = why_unreachable(THPVariable_Unpack(tensor));
    state.unreachable = field;
    return state.unreachable_reason == nullptr;
  };
  for (size_t i = 0; i < fields.size(); ++i) {
    if (!is_reachable(state.tensors[i], fields[i])) return state;
    const auto dtype = THPVariable_Unpack(state.tensors[0]).scalar_type();
    check_state(parameter, fields[i], THPVariable_Unpack(state.tensors[i]), dtype);
  }
  if (counts_steps(rule)) {
    if (!is_reachable(state.step, StateField::kStep)) return state;
    check_step(parameter, THPVariable_Unpack(state.step));
  }
  return state;
}

std::string describe_unreachable(const State& state) {
  return std::string("its state '") + name_of(state.unreachable) + "': " + state.unreachable_reason;
}

bool is_device_number(const at::Tensor& number, at::Device device) {
  if (number.device() != device || !is_asynchronous(device.type()) || why_unreachable(number) != nullptr) return false;
  return number.numel() == 1 && (number.scalar_type() == at::kFloat || number.scalar_type() == at::kDouble);
}

DeviceNumber device_number(const at::Tensor& number) {
  return {number.mutable_data_ptr(), number.scalar_type() == at::kDouble};
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
