#include "engine/step.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <stdexcept>
#include <torch/csrc/autograd/python_variable.h>
#include <unordered_set>

#include "engine/backend.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

py::object to_python(const at::Tensor& tensor) { return py::reinterpret_steal<py::object>(THPVariable_Wrap(tensor)); }

at::ScalarType type_of_counts() { // torch's
  return c10::get_default_dtype_as_scalartype() == at::kDouble ? at::kDouble : at::kFloat;
}

} // namespace

void Step::operator()(PyObject* param_groups, PyObject* state, Scaling scaling, const py::function& step_unserved) {
  if (running_)
    throw std::runtime_error("step() is already running on this optimizer, in another thread or around this call");
  struct Running {
    Step& step;
    explicit Running(Step& s) : step(s) { step.running_ = true; }
    ~Running() {
      step.release();
      step.running_ = false;
    }
  } running(*this);
  const at::NoGradGuard no_grad;
  scaling_ = std::move(scaling);
  overflown_ = !scaling_.lies_on_device() && scaling_.overflown();
  if (overflown_) return;

  state_index_.refresh(state);
  collect(param_groups);
  if (unserved_.size() > 0) overflown_ |= scaling_.overflown();
  if (overflown_) return;
  if (unserved_.size() > 0) step_unserved(unserved_);
  create_states();
  create_counts();
  run();
  hand_over(state);
}

// ---- reading and checking: nothing is changed ----

void Step::collect(PyObject* param_groups) {
  if (!PyList_Check(param_groups)) throw py::type_error("optimizer.param_groups must be a list");
  walked_ = 0;
  for (Py_ssize_t g = 0; g < PyList_GET_SIZE(param_groups); ++g) {
    PyObject* const dict = PyList_GET_ITEM(param_groups, g);
    if (!PyDict_Check(dict)) throw py::type_error("param group " + std::to_string(g) + " must be a dict");
    const Group group{dict, g};
    const at::Tensor* rate = group.tensor(GroupField::kLr);
    if (rate != nullptr && !is_device_number(*rate, rate->device())) rate = nullptr;
    math::Hyperparameters h = read_hyperparameters(optimizer_, group, rate == nullptr);
    rate_read_ = rate == nullptr;
    PyObject* const params = group.at(GroupField::kParams);
    if (!PyList_Check(params)) throw py::type_error(group.describe() + ": params must be a list of tensors");
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(params); ++i) {
      collect_parameter(group, i, PyList_GET_ITEM(params, i), rate, h);
    }
  }
  walk_.resize(walked_);
  walk_generation_ = state_index_.generation();
  if (!no_parameter_twice_) check_no_parameter_twice();
  check_no_memory_shared();
}

void Step::collect_parameter(const Group& group, Py_ssize_t index, PyObject* object, const at::Tensor* rate,
                             math::Hyperparameters& h) {
  if (!THPVariable_Check(object)) {
    throw py::type_error(group.describe() + ": parameter " + std::to_string(index) + " must be a tensor, got " +
                         std::string(py::repr(object)));
  }
  PyObject* const dict = state_dict_of(object);
  Footprint& footprint = next_footprint();
  footprint.note_python_tensor(object);
  footprint.note_dict(group.dict);
  footprint.note_dict(dict);
  const Parameter parameter{group, index, THPVariable_Unpack(object)};
  const at::Tensor& param = parameter.tensor;
  const at::Tensor& gradient = param.unsafeGetTensorImpl()->grad();
  if (!gradient.defined()) return;

  const char* reason = why_unserved(param);
  if (reason == nullptr) reason = why_unserved(gradient);
  if (reason != nullptr) {
    unserved_.append(py::make_tuple(group.index, index, reason));
    return;
  }
  check_gradient(parameter, gradient);
  check_writable(parameter, param, "the parameter");

  const at::Device device = param.device();
  const Rule rule = rule_of(optimizer_, h);
  const auto state = read_state(parameter, rule, dict);
  check_capture(parameter, rule, state);
  collect_scaling(device, h);
  h.first_step = !state;
  if (rule == Rule::kSgdMomentum && !state && scaling_.is_read_by(device)) {
    // The host does not know whether this will be a first step at all. A buffer of zeros comes to the same without
    // dampening; with it, the host has to wait for the device this once.
    if (h.dampening == 0)
      h.first_step = false;
    else
      overflown_ |= scaling_.overflown();
  }
  const Count count = counts_steps(rule) ? read_count(parameter, state, h) : Count{};
  const DeviceNumber rate_here = read_rate(parameter, rate, h);

  const auto dtype = param.scalar_type();
  const auto state_dtype = state ? THPVariable_Unpack(state->tensors[0]).scalar_type() : dtype;
  const Place place = append_row(device, rule, *elements_of(dtype, state_dtype), param.numel(), h, rate_here);
  row(place).step = count.on_device;
  if (state && counts_steps(rule)) {
    if (!count.by_device) {
      step_counts_.emplace_back(py::reinterpret_borrow<py::object>(state->step), count.value);
      footprint.note_python_tensor(state->step);
      footprint.note(THPVariable_Unpack(state->step).const_data_ptr());
    } else if (count.on_device.address != nullptr) {
      params_and_states_.push_back(py::reinterpret_borrow<py::object>(state->step));
    } else {
      moved_counts_.push_back({place, py::reinterpret_borrow<py::object>(dict), count.value - 1, py::object()});
    }
  }
  set_operand(place, kParam, param, param);
  params_and_states_.push_back(py::reinterpret_borrow<py::object>(object));
  const bool unscaled = scaling_.is_read_by(device) ? scaling_.has_scale() : h.inverse_scale != 1;
  set_operand(place, kGradient, gradient, param, unscaled);
  gradients_.push_back({gradient, unscaled});
  footprint.note_tensor(gradient);
  const auto states = state_fields(rule).size();
  if (state) {
    for (size_t i = 0; i < states; ++i) {
      set_operand(place, static_cast<int>(i), THPVariable_Unpack(state->tensors[i]), param);
      params_and_states_.push_back(py::reinterpret_borrow<py::object>(state->tensors[i]));
      footprint.note_python_tensor(state->tensors[i]);
    }
  } else if (states > 0) {
    stateless_.push_back({place, py::reinterpret_borrow<py::object>(object), py::reinterpret_borrow<py::object>(dict),
                          count.by_device, py::dict()});
  }
}

// The count of this step, by the host or by the device. Where the device counts, it computes bias corrections, too.
Step::Count Step::read_count(const Parameter& parameter, const std::optional<State>& state, math::Hyperparameters& h) {
  const at::Device device = parameter.tensor.device();
  const at::Tensor* before = state ? &THPVariable_Unpack(state->step) : nullptr;
  Count count;
  if (before != nullptr && is_device_number(*before, device)) {
    count.by_device = true;
    count.on_device = device_number(*before);
  } else {
    count.value = before != nullptr ? step_count(*before) + 1 : 1;
    // By torch's own rule, and where the device alone knows whether a step counts.
    count.by_device = is_asynchronous(device.type()) &&
                      (scaling_.is_read_by(device) || parameter.group.flag_or_false(GroupField::kCapturable) ||
                       (before == nullptr && parameter.group.flag_or_false(GroupField::kFused)));
  }
  if (count.by_device)
    h.bias_correction1 = h.sqrt_bias_correction2 = 1;
  else
    bias_corrections_.apply(h, count.value);
  return count;
}

// Where kernels read the rate, if they do; else it is in the hyperparameters. `rate` lies on some device.
DeviceNumber Step::read_rate(const Parameter& parameter, const at::Tensor* rate, math::Hyperparameters& h) {
  if (rate == nullptr) return {};
  if (rate->device() != parameter.tensor.device()) {
    if (!rate_read_) h.lr = parameter.group.non_negative(GroupField::kLr); // waits for the other device, once a group
    rate_read_ = true;
    return {};
  }
  rates_.push_back(*rate);
  return device_number(*rate);
}

// How the gradients of a parameter on this device are unscaled: by the kernels, or by a number that the host knows.
void Step::collect_scaling(at::Device device, math::Hyperparameters& h) {
  if (scaling_.is_read_by(device)) {
    h.inverse_scale = 1;
    return;
  }
  h.inverse_scale = scaling_.inverse_scale();
  overflown_ |= scaling_.overflown();
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

// Asked once a step and device.
bool Step::is_capturing(at::Device device) {
  for (const auto& [known, capturing] : capturing_) {
    if (known == device) return capturing;
  }
  const bool capturing = is_asynchronous(device.type()) && find_backend(device.type())->is_capturing(device);
  return capturing_.emplace_back(device, capturing).second;
}

PyObject* Step::state_dict_of(PyObject* param) {
  if (walked_ == walk_.size()) walk_.emplace_back();
  auto& [known_param, dict] = walk_[walked_++];
  if (known_param == param && walk_generation_ == state_index_.generation()) return dict;
  if (known_param != param) no_parameter_twice_ = false;
  known_param = param;
  return dict = state_index_.find(param);
}

// The footprint to be noted for the parameter under way. Prefetches that of one a little ahead: far enough for memory
// to answer, near enough for the caches' queues.
Footprint& Step::next_footprint() {
  constexpr size_t kAhead = 3;
  if (footprints_.size() < walked_) footprints_.resize(walked_);
  if (walked_ + kAhead < footprints_.size()) footprints_[walked_ + kAhead].prefetch();
  Footprint& footprint = footprints_[walked_ - 1];
  footprint.clear();
  return footprint;
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

// Nor may two tensors share memory (`head.weight.data = embedding.weight.data`). Looked at anew where data has moved.
void Step::check_no_memory_shared() {
  size_t i = 0;
  bool moved = false;
  for (const auto& table : tables_) {
    for (const auto& row : table.rows) {
      if (i == checked_memory_.size()) checked_memory_.push_back(nullptr);
      moved |= checked_memory_[i] != row.param;
      checked_memory_[i++] = row.param;
    }
  }
  checked_memory_.resize(i);
  if (!moved) return;
  std::vector<std::pair<const char*, const char*>> ranges;
  for (const auto& table : tables_) {
    for (const auto& row : table.rows) {
      if (row.numel == 0) continue;
      const auto* begin = static_cast<const char*>(row.param);
      ranges.emplace_back(begin, begin + row.numel * param_itemsize(table.elements));
    }
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t r = 1; r < ranges.size(); ++r) {
    if (ranges[r].first >= ranges[r - 1].second) continue;
    checked_memory_.clear();
    throw py::value_error("two parameters share memory and would be updated at the same time. To tie them, use one "
                          "Parameter in both places");
  }
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

// ---- changing ----

// Makes the first state of parameters, as torch makes it.
void Step::create_states() {
  for (auto& s : stateless_) {
    const TensorTable& table = tables_[s.place.table];
    const Rule rule = table.rule;
    py::dict& dict = s.created;
    if (s.step_on_device) {
      params_and_states_.push_back(to_python(count_on_device(s.place, 0)));
      state_keys().set(dict.ptr(), StateField::kStep, params_and_states_.back().ptr());
    } else if (counts_steps(rule)) {
      step_counts_.emplace_back(to_python(at::scalar_tensor(0, type_of_counts())), 1);
      state_keys().set(dict.ptr(), StateField::kStep, step_counts_.back().first.ptr());
    }
    const auto fields = state_fields(rule);
    const at::Tensor& param = THPVariable_Unpack(s.param.ptr());
    for (size_t i = 0; i < fields.size(); ++i) {
      // The first momentum buffer is written before it is read.
      const bool written_first =
          rule == Rule::kSgdMomentum && table.hyperparameters[row(s.place).hyperparameters].first_step;
      const auto tensor = written_first ? at::empty_like(param, at::MemoryFormat::Preserve)
                                        : at::zeros_like(param, at::MemoryFormat::Preserve);
      set_operand(s.place, static_cast<int>(i), tensor, param);
      params_and_states_.push_back(to_python(tensor));
      state_keys().set(dict.ptr(), fields[i], params_and_states_.back().ptr());
    }
  }
}

// Step counts that go to the device.
void Step::create_counts() {
  for (auto& m : moved_counts_) {
    m.created = to_python(count_on_device(m.place, m.value));
    params_and_states_.push_back(m.created);
  }
}

// Puts what was created into the optimizer's state: only once the update is under way, so that a backend that fails
// leaves no state behind that nobody has written.
void Step::hand_over(PyObject* state) {
  for (const auto& s : stateless_) {
    const int failed =
        s.dict ? PyDict_Update(s.dict.ptr(), s.created.ptr()) : PyObject_SetItem(state, s.param.ptr(), s.created.ptr());
    if (failed) throw py::error_already_set();
  }
  for (const auto& m : moved_counts_) state_keys().set(m.dict.ptr(), StateField::kStep, m.created.ptr());
}

// A new step count for the kernels to count up.
at::Tensor Step::count_on_device(Place place, double value) {
  const auto options = at::TensorOptions().dtype(type_of_counts()).device(tables_[place.table].device);
  const at::Tensor count = at::full({}, value, options); // filled on the device: nothing to wait for
  row(place).step = device_number(count);
  return count;
}

void Step::run() {
  for (const auto& s : scattered_) s.dense.copy_(s.original);
  for (auto& table : tables_) {
    if (!table.rows.empty() && scaling_.is_read_by(table.device)) table.scaling = scaling_.on(table.device);
  }
  {
    const py::gil_scoped_release no_gil;
    for (auto& table : tables_) {
      if (!table.rows.empty()) find_backend(table.device.type())->update(table);
    }
  }
  for (const auto& s : scattered_) {
    if (s.written) s.original.copy_(s.dense);
  }
  // The kernels wrote through raw pointers: tell autograd.
  const auto bump = [](const at::Tensor& t) {
    if (!t.is_inference()) t.unsafeGetTensorImpl()->bump_version();
  };
  for (const auto& object : params_and_states_) bump(THPVariable_Unpack(object.ptr()));
  for (const auto& gradient : gradients_) {
    if (gradient.written) bump(gradient.tensor);
  }
  for (const auto& [object, value] : step_counts_) {
    const at::Tensor& count = THPVariable_Unpack(object.ptr());
    set_step_count(count, value);
    bump(count);
  }
}

void Step::release() {
  for (auto& table : tables_) table.clear();
  params_and_states_.clear();
  gradients_.clear();
  rates_.clear();
  capturing_.clear();
  scaling_ = {};
  step_counts_.clear();
  scattered_.clear();
  stateless_.clear();
  moved_counts_.clear();
  if (unserved_.size() > 0) unserved_ = py::list();
}

} // namespace lerac_fast::engine
