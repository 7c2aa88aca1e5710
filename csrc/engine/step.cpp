#include "engine/step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>
#include <stdexcept>

#include "engine/backend.h"
#include "engine/python_tensor.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

at::ScalarType type_of_counts() { // torch's
  return c10::get_default_dtype_as_scalartype() == at::kDouble ? at::kDouble : at::kFloat;
}

// Filled on the device: nothing to wait for.
py::object new_count(double value, at::Device device) {
  return to_python(at::full({}, value, at::TensorOptions().dtype(type_of_counts()).device(device)));
}

} // namespace

void Step::operator()(PyObject* param_groups, PyObject* state, Scaling scaling, const py::function& step_unserved) {
  if (running_)
    throw std::runtime_error("step() is already running on this optimizer, in another thread or around this call");
  struct Running {
    Step& step;
    explicit Running(Step& s) : step(s) { step.running_ = true; }
    ~Running() {
      step.forget_step();
      step.running_ = false;
    }
  } running(*this);
  const at::NoGradGuard no_grad;
  scaling_ = std::move(scaling);
  const auto overflown = [&] { return scaling_.is_known() && scaling_.overflown(); };
  while (!overflown()) {
    read_groups(param_groups);
    ask_what_captures();
    walk(state);
    if (!pending_.any()) {
      run();
      hand_over();
      return;
    }
    do_pending(state, step_unserved);
  }
}

// ---- what takes Python code, before a new walk ----

// One kind at a time, that what can be refused is refused before something changes.
void Step::do_pending(PyObject* state, const py::function& step_unserved) {
  Pending pending = std::move(pending_);
  forget_walk();
  if (!pending.devices.empty()) {
    for (const at::Device device : pending.devices) ask_whether_captures(device);
  } else if (pending.scaling || (!pending.unserved.empty() && !scaling_.is_known())) {
    scaling_.read();
  } else if (!pending.unserved.empty()) {
    step_by_parent(std::move(pending.unserved), step_unserved);
  } else {
    const c10::InferenceMode no_inference(false); // states are to be updated outside of it, too
    const at::NoGradGuard no_grad;
    for (const auto& stateless : pending.stateless) create_state(stateless, state);
    for (const auto& count : pending.host_counts)
      state_keys().set(count.dict.ptr(), StateField::kStep, new_count(count.value, count.device).ptr());
  }
}

// Of the devices that the last steps were for.
void Step::ask_what_captures() {
  for (const auto& table : tables_) {
    if (table.rule != Rule::kSgd) ask_whether_captures(table.device);
  }
}

// Once a step and device.
void Step::ask_whether_captures(at::Device device) {
  for (const auto& [known, capturing] : capturing_) {
    if (known == device) return;
  }
  const bool capturing = is_asynchronous(device.type()) && find_backend(device.type())->is_capturing(device);
  capturing_.emplace_back(device, capturing);
}

void Step::step_by_parent(std::vector<Unserved> unserved, const py::function& step_unserved) {
  py::list places;
  for (const auto& u : unserved) places.append(py::make_tuple(u.group, u.index, u.reason));
  step_unserved(places);
  for (auto& u : unserved) stepped_by_parent_.emplace(u.param.ptr(), std::move(u.param));
}

// Makes the first state of a parameter, as torch makes it, and a place for it. Whatever comes in between, such as
// Ctrl-C, leaves the place empty, which is as good as none.
void Step::create_state(const Stateless& stateless, PyObject* state) {
  const at::Tensor& param = THPVariable_Unpack(stateless.param.ptr());
  py::dict first;
  if (counts_steps(stateless.rule)) {
    const bool on_device = stateless.step_on_device || (is_asynchronous(param.device().type()) &&
                                                        stateless.group.flag_or_false(GroupField::kFused));
    const py::object count = new_count(0, on_device ? param.device() : at::Device(at::kCPU));
    state_keys().set(first.ptr(), StateField::kStep, count.ptr());
  }
  for (const StateField field : state_fields(stateless.rule)) {
    const py::object tensor = to_python(at::zeros_like(param, at::MemoryFormat::Preserve));
    state_keys().set(first.ptr(), field, tensor.ptr());
  }
  if (!stateless.has_dict && PyObject_SetItem(state, stateless.param.ptr(), py::dict().ptr()) != 0)
    throw py::error_already_set();
  first_states_.insert_or_assign(stateless.param.ptr(), FirstState{stateless.param, std::move(first)});
}

// ---- changing ----

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
  const auto bump = [](const at::Tensor& t) { t.unsafeGetTensorImpl()->bump_version(); };
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

// Puts first states into the optimizer's: only now, so that a backend that fails leaves no state that nobody has
// written. It runs no Python code, so that no Ctrl-C can come between the update and its state.
void Step::hand_over() {
  for (const auto& [dict, first_state] : handed_over_) {
    if (PyDict_Update(dict.ptr(), first_state.ptr()) != 0) throw py::error_already_set();
  }
}

void Step::forget_walk() {
  pending_ = {};
  groups_.clear();
  for (auto& table : tables_) table.clear();
  params_and_states_.clear();
  gradients_.clear();
  step_counts_.clear();
  scattered_.clear();
  handed_over_.clear();
}

void Step::forget_step() {
  forget_walk();
  scaling_ = {};
  capturing_.clear();
  stepped_by_parent_.clear();
  first_states_.clear();
}

} // namespace lerac_fast::engine
