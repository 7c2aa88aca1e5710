#include "engine/step.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
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

} // namespace

void Step::operator()(PyObject* param_groups, PyObject* state, double inverse_scale,
                      const py::function& step_unserved) {
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
  inverse_scale_ = inverse_scale;

  state_index_.refresh(state);
  collect(param_groups);
  if (unserved_.size() > 0) step_unserved(unserved_);
  create_states(state);
  run();
}

// ---- reading and checking: nothing is changed ----

void Step::collect(PyObject* param_groups) {
  if (!PyList_Check(param_groups)) throw py::type_error("optimizer.param_groups must be a list");
  walked_ = 0;
  for (Py_ssize_t g = 0; g < PyList_GET_SIZE(param_groups); ++g) {
    PyObject* const dict = PyList_GET_ITEM(param_groups, g);
    if (!PyDict_Check(dict)) throw py::type_error("param group " + std::to_string(g) + " must be a dict");
    const Group group{dict, g};
    math::Hyperparameters h = read_hyperparameters(optimizer_, group);
    h.inverse_scale = inverse_scale_;
    PyObject* const params = group.at(GroupField::kParams);
    if (!PyList_Check(params)) throw py::type_error(group.describe() + ": params must be a list of tensors");
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(params); ++i) {
      collect_parameter(group, i, PyList_GET_ITEM(params, i), h);
    }
  }
  walk_.resize(walked_);
  walk_generation_ = state_index_.generation();
  if (!no_parameter_twice_) check_no_parameter_twice();
  check_no_memory_shared();
}

void Step::collect_parameter(const Group& group, Py_ssize_t index, PyObject* object, math::Hyperparameters& h) {
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

  const Rule rule = rule_of(optimizer_, h);
  const auto state = read_state(parameter, rule, dict);
  h.first_step = !state;
  if (counts_steps(rule)) {
    const double t = state ? step_count(THPVariable_Unpack(state->step)) + 1 : 1;
    bias_corrections_.apply(h, t);
    if (state) {
      step_counts_.emplace_back(py::reinterpret_borrow<py::object>(state->step), t);
      footprint.note_python_tensor(state->step);
      footprint.note(THPVariable_Unpack(state->step).const_data_ptr());
    }
  }

  const auto dtype = param.scalar_type();
  const auto state_dtype = state ? THPVariable_Unpack(state->tensors[0]).scalar_type() : dtype;
  const Place place = append_row(param.device(), rule, *elements_of(dtype, state_dtype), param.numel(), h);
  set_operand(place, kParam, param, param);
  params_and_states_.push_back(py::reinterpret_borrow<py::object>(object));
  set_operand(place, kGradient, gradient, param);
  gradients_.push_back(gradient);
  footprint.note_tensor(gradient);
  const auto states = state_fields(rule).size();
  if (state) {
    for (size_t i = 0; i < states; ++i) {
      set_operand(place, static_cast<int>(i), THPVariable_Unpack(state->tensors[i]), param);
      params_and_states_.push_back(py::reinterpret_borrow<py::object>(state->tensors[i]));
      footprint.note_python_tensor(state->tensors[i]);
    }
  } else if (states > 0) {
    stateless_.push_back({place, py::reinterpret_borrow<py::object>(object), py::reinterpret_borrow<py::object>(dict)});
  }
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
                             const math::Hyperparameters& h) {
  size_t table = 0;
  while (table < tables_.size() && !tables_[table].holds(device, rule, elements)) ++table;
  if (table == tables_.size()) tables_.push_back({device, rule, elements, {}, {0}, {}});
  tables_[table].append({nullptr, nullptr, {}, numel, 0}, h);
  return {table, tables_[table].rows.size() - 1};
}

void Step::set_operand(Place place, int operand, const at::Tensor& tensor, const at::Tensor& param) {
  const bool dense = param.is_non_overlapping_and_dense();
  if (dense ? share_dense_layout(tensor, param) : tensor.is_contiguous()) {
    pointer(place, operand) =
        is_written(operand) ? tensor.mutable_data_ptr() : const_cast<void*>(tensor.const_data_ptr());
    return;
  }
  auto copy = dense ? at::empty_strided(param.sizes(), param.strides(), tensor.options())
                    : at::empty(param.sizes(), tensor.options());
  pointer(place, operand) = copy.mutable_data_ptr();
  // An expanded gradient cannot hold its unscaled values; it keeps the scaled ones.
  const bool written = is_written(operand) && at::has_internal_overlap(tensor) != at::MemOverlap::Yes;
  scattered_.push_back({tensor, std::move(copy), written});
}

void*& Step::pointer(Place place, int operand) {
  Row& row = tables_[place.table].rows[place.row];
  return operand == kParam ? row.param : operand == kGradient ? row.gradient : row.states[operand];
}

// ---- changing ----

// Makes the first state of parameters, as torch makes it. All of it is allocated before any is handed over.
void Step::create_states(PyObject* state) {
  std::vector<py::dict> created;
  created.reserve(stateless_.size());
  for (const auto& s : stateless_) {
    const Rule rule = tables_[s.place.table].rule;
    py::dict& dict = created.emplace_back();
    if (counts_steps(rule)) {
      const auto dtype = c10::get_default_dtype_as_scalartype() == at::kDouble ? at::kDouble : at::kFloat;
      step_counts_.emplace_back(to_python(at::scalar_tensor(0, dtype)), 1);
      state_keys().set(dict.ptr(), StateField::kStep, step_counts_.back().first.ptr());
    }
    const auto fields = state_fields(rule);
    const at::Tensor& param = THPVariable_Unpack(s.param.ptr());
    for (size_t i = 0; i < fields.size(); ++i) {
      // The first momentum buffer is written before it is read.
      const auto tensor = rule == Rule::kSgdMomentum ? at::empty_like(param, at::MemoryFormat::Preserve)
                                                     : at::zeros_like(param, at::MemoryFormat::Preserve);
      set_operand(s.place, static_cast<int>(i), tensor, param);
      params_and_states_.push_back(to_python(tensor));
      state_keys().set(dict.ptr(), fields[i], params_and_states_.back().ptr());
    }
  }
  for (size_t i = 0; i < stateless_.size(); ++i) {
    const auto& s = stateless_[i];
    const int failed = s.dict ? PyDict_Update(s.dict.ptr(), created[i].ptr())
                              : PyObject_SetItem(state, s.param.ptr(), created[i].ptr());
    if (failed) throw py::error_already_set();
  }
}

void Step::run() {
  for (const auto& s : scattered_) s.dense.copy_(s.original);
  {
    const py::gil_scoped_release no_gil;
    for (const auto& table : tables_) {
      if (!table.rows.empty()) find_backend(table.device.type())(table);
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
  if (is_written(kGradient)) {
    for (const auto& tensor : gradients_) bump(tensor);
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
  step_counts_.clear();
  scattered_.clear();
  stateless_.clear();
  if (unserved_.size() > 0) unserved_ = py::list();
}

} // namespace lerac_fast::engine
