// How a step reads and checks its operands: nothing is changed here.
#include <ATen/MemoryOverlap.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <stdexcept>
#include <unordered_set>

#include "engine/backend.h"
#include "engine/python_tensor.h"
#include "engine/step.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

py::object borrow(PyObject* object) { return py::reinterpret_borrow<py::object>(object); }

} // namespace

// This may run Python code: what is read is owned from here on.
void Step::read_groups(PyObject* param_groups) {
  if (!PyList_Check(param_groups)) throw py::type_error("optimizer.param_groups must be a list");
  group_footprints_.begin();
  for (Py_ssize_t g = 0; g < PyList_GET_SIZE(param_groups); ++g) {
    auto dict = borrow(PyList_GET_ITEM(param_groups, g));
    if (!PyDict_Check(dict.ptr())) throw py::type_error("param group " + std::to_string(g) + " must be a dict");
    const Group group{dict.ptr(), g};
    auto params = borrow(group.at(GroupField::kParams));
    if (!PyList_Check(params.ptr())) throw py::type_error(group.describe() + ": params must be a list of tensors");
    auto& footprint = group_footprints_.next();
    footprint.note_dict(dict.ptr());
    footprint.note(params.ptr());

    ReadGroup& read = groups_.emplace_back();
    read.group = group;
    read.dict = std::move(dict);
    read.params = std::move(params);
    read.h = read_hyperparameters(optimizer_, group, &read.rate);
    read.rate_in_h = !read.rate.defined();
    read.capturable = optimizer_ != Optimizer::kSgd && group.flag_or_false(GroupField::kCapturable);
  }
}

void Step::walk(PyObject* state) {
  state_index_.refresh(state);
  walked_ = 0;
  footprints_.begin();
  shared_memory_.begin();
  for (ReadGroup& read : groups_) {
    PyObject* const params = read.params.ptr();
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(params); ++i) collect(read, i, PyList_GET_ITEM(params, i));
  }
  walk_.resize(walked_);
  walk_generation_ = state_index_.generation();
  if (!no_parameter_twice_) check_no_parameter_twice();
  shared_memory_.check();
}

void Step::collect(ReadGroup& read, Py_ssize_t index, PyObject* object) {
  if (!is_tensor(object)) {
    throw py::type_error(read.group.describe() + ": parameter " + std::to_string(index) + " must be a tensor, got " +
                         std::string(py::repr(object)));
  }
  PyObject* const dict = state_dict_of(object);
  auto& footprint = footprints_.next();
  footprint.note_python_tensor(object);
  footprint.note_dict(dict);
  const Parameter parameter{read.group, index, THPVariable_Unpack(object)};
  const at::Tensor& param = parameter.tensor;
  const at::Tensor& gradient = param.unsafeGetTensorImpl()->grad();
  if (!gradient.defined()) return;
  if (!stepped_by_parent_.empty() && stepped_by_parent_.contains(object)) return;

  const auto leave_to_parent = [&](std::string reason) {
    pending_.unserved.push_back({read.group.index, index, std::move(reason), borrow(object)});
  };
  const char* reason = why_unserved(param);
  if (reason == nullptr) reason = why_unserved(gradient);
  if (reason != nullptr) return leave_to_parent(reason);
  check_gradient(parameter, gradient);
  check_writable(parameter, param, "the parameter");
  if (read.capturable) check_capturable(parameter);

  const Rule rule = rule_of(optimizer_, read.h);
  auto state = read_state(parameter, rule, dict);
  const bool is_first = !state;
  PyObject* const first_state = is_first ? first_state_of(object) : nullptr;
  if (first_state != nullptr) state = read_state(parameter, rule, first_state);
  if (state && state->unreachable_reason != nullptr) return leave_to_parent(describe_unreachable(*state));

  const at::Device device = param.device();
  check_capture(parameter, rule, state);
  collect_scaling(device, read.h);
  read.h.first_step = is_first && counts_as_first(rule, read.h, device);
  const Count count = counts_steps(rule) ? read_count(read, device, state) : Count{};
  const DeviceNumber rate = read_rate(read, device);
  shared_memory_.note(param);
  if (!state && !state_fields(rule).empty()) {
    pending_.stateless.push_back({borrow(object), dict != nullptr, read.group, read.dict, rule, count.by_device});
    return;
  }
  if (count.is_to_move) {
    pending_.host_counts.push_back({borrow(first_state != nullptr ? first_state : dict), count.value - 1, device});
    return;
  }

  const auto dtype = param.scalar_type();
  const auto state_dtype = state ? THPVariable_Unpack(state->tensors[0]).scalar_type() : dtype;
  const Place place = append_row(device, rule, *elements_of(dtype, state_dtype), param.numel(), read.h, rate);
  set_operand(place, kParam, param, param);
  params_and_states_.push_back(borrow(object));
  const bool unscaled = scaling_.is_read_by(device) ? scaling_.has_scale() : read.h.inverse_scale != 1;
  set_operand(place, kGradient, gradient, param, unscaled);
  gradients_.push_back({gradient, unscaled});
  footprint.note_tensor(gradient);
  for (size_t i = 0; i < state_fields(rule).size(); ++i) {
    set_operand(place, static_cast<int>(i), THPVariable_Unpack(state->tensors[i]), param);
    params_and_states_.push_back(borrow(state->tensors[i]));
    footprint.note_python_tensor(state->tensors[i]);
  }
  if (count.by_device) {
    row(place).step = device_number(THPVariable_Unpack(state->step));
    params_and_states_.push_back(borrow(state->step));
  } else if (counts_steps(rule)) {
    step_counts_.emplace_back(borrow(state->step), count.value);
    footprint.note_python_tensor(state->step);
    footprint.note(THPVariable_Unpack(state->step).const_data_ptr());
  }
  if (first_state == nullptr) return;
  if (dict == nullptr) throw std::runtime_error(parameter.describe() + ": optimizer.state keeps nothing for it");
  handed_over_.emplace_back(borrow(dict), borrow(first_state));
}

// As torch: no graph can capture the steps of a CPU.
void Step::check_capturable(const Parameter& parameter) {
  if (is_asynchronous(parameter.tensor.device().type())) return;
  const std::string message = parameter.describe() +
                              ": capturable=True is for devices whose steps a graph can capture, "
                              "such as cuda. Leave capturable out";
  PyErr_SetString(PyExc_AssertionError, message.c_str());
  throw py::error_already_set();
}

// The state that was made for a parameter in this step, or nullptr.
PyObject* Step::first_state_of(PyObject* param) {
  const auto found = first_states_.find(param);
  return found == first_states_.end() ? nullptr : found->second.dict.ptr();
}

// How the gradients of a parameter on this device are unscaled: by the kernels, or by a number that the host knows.
void Step::collect_scaling(at::Device device, math::Hyperparameters& h) {
  h.inverse_scale = 1;
  if (scaling_.is_read_by(device)) return;
  if (scaling_.is_known())
    h.inverse_scale = scaling_.inverse_scale();
  else
    pending_.scaling = true;
}

// Whether the update of a parameter without state is that of a first step.
bool Step::counts_as_first(Rule rule, const math::Hyperparameters& h, at::Device device) {
  if (rule != Rule::kSgdMomentum || !scaling_.is_read_by(device)) return true;
  // The host does not know whether this will be a first step at all. A buffer of zeros comes to the same without
  // dampening; with it, the host has to wait for the device this once.
  if (h.dampening == 0) return false;
  if (!scaling_.is_known()) pending_.scaling = true;
  return true;
}

// The count of this step, by the host or by the device. Where the device counts, it computes bias corrections, too.
Step::Count Step::read_count(ReadGroup& read, at::Device device, const std::optional<State>& state) {
  const at::Tensor* before = state ? &THPVariable_Unpack(state->step) : nullptr;
  Count count;
  if (before != nullptr && is_device_number(*before, device)) {
    count.by_device = true;
  } else {
    count.value = before != nullptr ? step_count(*before) + 1 : 1;
    // By torch's own rule, and where the device alone knows whether a step counts.
    count.by_device = is_asynchronous(device.type()) && (scaling_.is_read_by(device) || read.capturable);
    count.is_to_move = count.by_device && before != nullptr;
  }
  if (count.by_device)
    read.h.bias_correction1 = read.h.sqrt_bias_correction2 = 1;
  else
    bias_corrections_.apply(read.h, count.value);
  return count;
}

// Where the kernels of this device read the rate, if they do; else it is in the hyperparameters.
DeviceNumber Step::read_rate(ReadGroup& read, at::Device device) {
  if (!read.rate.defined()) return {};
  if (read.rate.device() == device) return device_number(read.rate);
  // Waits for the other device, once a group.
  if (!read.rate_in_h) read.h.lr = read.group.non_negative(GroupField::kLr, read.rate.item().toDouble());
  read.rate_in_h = true;
  return {};
}

// What a graph records is the same at every replay: new states would be zero again, counts of the host stand still.
void Step::check_capture(const Parameter& parameter, Rule rule, const std::optional<State>& state) {
  const at::Device device = parameter.tensor.device();
  if (rule == Rule::kSgd || !is_capturing(device)) return;
  const bool counted_here = state && counts_steps(rule) && !is_device_number(THPVariable_Unpack(state->step), device);
  if (state && !counted_here) return;
  throw std::runtime_error(
      parameter.describe() + ": a graph is being captured, but " +
      (state ? "its step count lies on the CPU. Set capturable=True" : "it has no state yet. Take a step") +
      " before the capture");
}

// As was asked before this walk. A device that is met for the first time is to be asked, and the walk to be repeated.
bool Step::is_capturing(at::Device device) {
  for (const auto& [known, capturing] : capturing_) {
    if (known == device) return capturing;
  }
  if (!is_asynchronous(device.type())) return false;
  pending_.devices.push_back(device);
  return false;
}

PyObject* Step::state_dict_of(PyObject* param) {
  if (walked_ == walk_.size()) walk_.emplace_back();
  auto& [known_param, dict] = walk_[walked_++];
  if (known_param == param && walk_generation_ == state_index_.generation()) return dict;
  if (known_param != param) no_parameter_twice_ = false;
  known_param = param;
  return dict = state_index_.find(param);
}

// Rows are updated at the same time, so a tensor must have one row only.
void Step::check_no_parameter_twice() {
  std::unordered_set<PyObject*> seen;
  for (const auto& [param, dict] : walk_) {
    if (seen.insert(param).second) continue;
    throw py::value_error("a parameter of shape " + std::string(py::str(py::handle(param).attr("shape"))) +
                          " appears more than once in the param groups");
  }
  no_parameter_twice_ = true;
}

Step::Place Step::append_row(at::Device device, Rule rule, Elements elements, int64_t numel,
                             const math::Hyperparameters& h, DeviceNumber rate) {
  size_t table = 0;
  while (table < tables_.size() && !tables_[table].holds(device, rule, elements)) ++table;
  if (table == tables_.size()) tables_.push_back({device, rule, elements, {}, {0}, {}, {}, {}, {}});
  tables_[table].append({nullptr, nullptr, {}, numel, 0, {}}, h, rate);
  return {table, tables_[table].rows.size() - 1};
}

void Step::set_operand(Place place, int operand, const at::Tensor& tensor, const at::Tensor& param, bool written) {
  const bool dense = param.is_non_overlapping_and_dense();
  if (dense ? share_dense_layout(tensor, param) : tensor.is_contiguous()) {
    pointer(place, operand) = written ? tensor.mutable_data_ptr() : const_cast<void*>(tensor.const_data_ptr());
    return;
  }
  auto copy = dense ? at::empty_strided(param.sizes(), param.strides(), tensor.options())
                    : at::empty(param.sizes(), tensor.options());
  pointer(place, operand) = copy.mutable_data_ptr();
  // An expanded gradient cannot hold its unscaled values; it keeps the scaled ones.
  written = written && at::has_internal_overlap(tensor) != at::MemOverlap::Yes;
  scattered_.push_back({tensor, std::move(copy), written});
}

void*& Step::pointer(Place place, int operand) {
  Row& r = row(place);
  return operand == kParam ? r.param : operand == kGradient ? r.gradient : r.states[operand];
}

} // namespace lerac_fast::engine
