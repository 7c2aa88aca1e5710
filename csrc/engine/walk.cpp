#include "engine/walk.h"

#include <optional>
#include <stdexcept>

#include "engine/backend.h"
#include "engine/dict_version.h"
#include "engine/python_tensor.h"
#include "engine/state.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

py::object borrow(PyObject* object) { return py::reinterpret_borrow<py::object>(object); }

// Of one walk. In this file alone, so that the compiler makes one function of its steps.
class Walk {
 public:
  Walk(Memory& memory, const StepFacts& step, Plan& plan) : memory_(memory), step_(step), plan_(plan) {}

  Pending over(std::vector<ReadGroup>& groups, PyObject* state);

 private:
  struct Count {
    double value = 0;        // of this step, if the host knows it
    bool by_device = false;  // counted by the kernels
    bool is_to_move = false; // which do not find it on the device yet
  };
  // A parameter with a gradient, as it is read.
  struct Operands {
    Parameter parameter;
    at::Device device;
    ReadGroup& group;
    PyObject* object;
    Local local;
    size_t place; // of a DTensor among the known layouts
    const at::Tensor* gradient;
    PyObject* dtensor_gradient; // of a DTensor; the plan holds it
    PyObject* dict;             // in the optimizer's state, or nullptr
    PyObject* first_state;      // that was made in this step, where the optimizer's has none; or nullptr
    bool is_first;
    std::optional<State> state;
    Count count;

    const at::Tensor& param() const { return parameter.tensor; }
    const RuleFacts& rule() const { return facts_of(group.rule); }
  };

  void read(ReadGroup& group, Py_ssize_t index, PyObject* object);
  // Apart from the one function, which they would make slower for plain tensors.
  [[gnu::noinline]] bool leave_to_parent(const Operands& operands, std::string reason);
  Layout layout_of(const Operands& operands, size_t operand, PyObject* spec);
  [[gnu::noinline]] bool take_local_gradient(Operands& operands);
  [[gnu::noinline]] bool take_local_states(Operands& operands);
  bool is_served(Operands& operands);
  [[gnu::always_inline]] inline void check_capture(const Operands& operands);
  bool is_capturing(at::Device device);
  math::Hyperparameters numbers_of(Operands& operands);
  bool counts_as_first(const Operands& operands);
  Count count_of(const Operands& operands);
  bool is_ready(const Operands& operands);
  void append(const Operands& operands, const math::Hyperparameters& h, DeviceNumber rate);

  Memory& memory_;
  const StepFacts& step_;
  Plan& plan_;
  Pending pending_;
};

Pending Walk::over(std::vector<ReadGroup>& groups, PyObject* state) {
  size_t count = 0;
  for (const ReadGroup& group : groups) count += static_cast<size_t>(PyList_GET_SIZE(group.params.ptr()));
  plan_.sources.reserve(count);
  plan_.gradients.reserve(count);
  memory_.known_parameters.begin(state, count);
  memory_.known_layouts.begin();
  memory_.shared_memory.begin(count);
  for (ReadGroup& group : groups) {
    PyObject* const params = group.params.ptr();
    group.size = PyList_GET_SIZE(params); // which stays, as no Python code runs
    for (Py_ssize_t i = 0; i < group.size; ++i) read(group, i, PyList_GET_ITEM(params, i));
  }
  memory_.known_parameters.end();
  memory_.shared_memory.check();
  return std::move(pending_);
}

void Walk::read(ReadGroup& group, Py_ssize_t index, PyObject* object) {
  if (!is_tensor(object)) {
    throw py::type_error(group.group.describe() + ": parameter " + std::to_string(index) + " must be a tensor, got " +
                         std::string(py::repr(object)));
  }
  PyObject* const dict = memory_.known_parameters.next(object);
  plan_.sources.push_back({object, dict});
  const Local local = local_of(object);
  const size_t place = local.spec != nullptr ? memory_.known_layouts.next() : 0;
  plan_.sources.back().place = place;
  const at::Tensor& gradient = THPVariable_Unpack(object).unsafeGetTensorImpl()->grad();
  if (!gradient.defined()) return;
  if (!step_.stepped_by_parent.empty() && step_.stepped_by_parent.contains(object)) return;

  const at::Tensor& param = THPVariable_Unpack(local.tensor);
  Operands operands{{group.group, index, param, local.spec != nullptr},
                    param.device(),
                    group,
                    object,
                    local,
                    place,
                    &gradient,
                    nullptr,
                    dict,
                    nullptr,
                    false,
                    {},
                    {}};
  if (local.spec != nullptr && !take_local_gradient(operands)) return;
  if (!is_served(operands)) return;
  check_capture(operands);
  math::Hyperparameters h = numbers_of(operands);
  DeviceNumber rate; // where the kernels read it, if they do
  if (group.rate.defined()) {
    if (group.rate.device() == operands.device)
      rate = device_number(group.rate);
    else
      h.lr = group.read_rate();
  }
  memory_.shared_memory.note(param);
  if (is_ready(operands)) append(operands, h, rate);
}

// False, always.
bool Walk::leave_to_parent(const Operands& operands, std::string reason) {
  pending_.unserved.push_back(
      {operands.group.group.index, operands.parameter.index, std::move(reason), borrow(operands.object)});
  return false;
}

// Of an operand of a DTensor. What is not known is noted as to be compared.
Layout Walk::layout_of(const Operands& operands, size_t operand, PyObject* spec) {
  const Layout layout = memory_.known_layouts.of(operands.place, operand, operands.local.spec, spec);
  if (layout == Layout::kUnknown)
    pending_.layouts.push_back({operands.place, operand, borrow(operands.local.spec), borrow(spec)});
  return layout;
}

// Whether the gradient of a DTensor lies as the parameter does.
bool Walk::take_local_gradient(Operands& operands) {
  const Layout own = layout_of(operands, KnownLayouts::kParameter, operands.local.spec);
  if (own == Layout::kOtherPlacements) return leave_to_parent(operands, "a DTensor whose values are partial sums");
  py::object gradient = to_python(*operands.gradient);
  PyObject* const redistributed =
      step_.redistributed.empty() ? nullptr : step_.redistributed_of(operands.object, gradient.ptr());
  if (redistributed != nullptr) gradient = borrow(redistributed);
  const Local local = local_of(gradient.ptr());
  if (local.spec == nullptr) return leave_to_parent(operands, "its gradient is no DTensor");
  switch (layout_of(operands, KnownLayouts::kGradient, local.spec)) {
  case Layout::kUnknown:
    return false;
  case Layout::kOtherMesh:
    return leave_to_parent(operands, "its gradient lies on another mesh");
  case Layout::kOtherPlacements:
    if (redistributed != nullptr)
      return leave_to_parent(operands, "its gradient cannot be laid out as the parameter is");
    pending_.redistributions.push_back({borrow(operands.object), std::move(gradient), borrow(operands.local.spec)});
    return false;
  case Layout::kSame:
    break;
  }
  operands.gradient = &THPVariable_Unpack(local.tensor);
  operands.dtensor_gradient = gradient.ptr();
  plan_.held.push_back(std::move(gradient));
  plan_.held.push_back(borrow(local.tensor));
  return own != Layout::kUnknown;
}

// Whether the states of a DTensor lie as the parameter does.
bool Walk::take_local_states(Operands& operands) {
  State& state = *operands.state;
  bool all_known = true;
  for (int i = 0; i < operands.rule().states; ++i) {
    const auto leave = [&](const char* reason) {
      return leave_to_parent(operands, Unserved{operands.rule().state_names[i], reason}.describe());
    };
    const Local local = local_of(state.tensors[i]);
    if (local.spec == nullptr) return leave("no DTensor, and the parameter is one");
    switch (layout_of(operands, KnownLayouts::kFirstState + static_cast<size_t>(i), local.spec)) {
    case Layout::kOtherMesh:
      return leave("on another mesh than the parameter");
    case Layout::kOtherPlacements:
      return leave("with other placements than the parameter's");
    case Layout::kUnknown:
      all_known = false;
      break;
    case Layout::kSame:
      state.locals[i] = local.tensor;
    }
  }
  if (all_known) check_state(operands.parameter, operands.group.rule, state);
  return all_known;
}

// Checks the operands and reads the state. What the kernels do not serve is left to the parent's step.
bool Walk::is_served(Operands& operands) {
  const char* reason = why_unserved(operands.param());
  if (reason == nullptr) reason = why_unserved(*operands.gradient);
  if (reason != nullptr) return leave_to_parent(operands, reason);
  const Parameter& parameter = operands.parameter;
  check_gradient(parameter, *operands.gradient);
  check_writable(parameter, parameter.tensor, "the parameter");
  if (operands.group.capturable) check_capturable(parameter);

  auto& state = operands.state;
  read_state(parameter, operands.group.rule, operands.dict, state);
  operands.is_first = !state;
  if (!state) {
    operands.first_state = step_.first_state_of(operands.object);
    read_state(parameter, operands.group.rule, operands.first_state, state);
  }
  if (!state) return true;
  if (parameter.is_dtensor && !take_local_states(operands)) return false;
  return state->unserved.reason == nullptr || leave_to_parent(operands, state->unserved.describe());
}

// What a graph records is the same at every replay: new states would be zero again, counts of the host stand still.
void Walk::check_capture(const Operands& operands) {
  const auto& state = operands.state;
  if (operands.rule().states == 0 || !is_capturing(operands.device)) return;
  const bool counted_here =
      state && operands.rule().counts_steps && !is_device_number(THPVariable_Unpack(state->step), operands.device);
  if (state && !counted_here) return;
  throw std::runtime_error(
      operands.parameter.describe() + ": a graph is being captured, but " +
      (state ? "its step count lies on the CPU. Set capturable=True" : "it has no state yet. Take a step") +
      " before the capture");
}

// As was asked before this walk. A device that is met for the first time is to be asked, and the walk to be repeated.
bool Walk::is_capturing(at::Device device) {
  const auto known = step_.is_capturing(device);
  if (known || !is_asynchronous(device.type())) return known.value_or(false);
  pending_.devices.push_back(device);
  return false;
}

// Everything but a rate on a device.
math::Hyperparameters Walk::numbers_of(Operands& operands) {
  math::Hyperparameters h{operands.group.numbers, {}, {}};
  // Gradients are unscaled by the kernels, or by a number that the host knows.
  const Scaling& scaling = step_.scaling;
  if (!scaling.is_read_by(operands.device)) {
    if (scaling.is_known())
      h.inverse_scale = scaling.inverse_scale();
    else
      pending_.scaling = true;
  }
  h.first_step = operands.is_first && operands.rule().has_first_step && counts_as_first(operands);
  if (operands.rule().counts_steps) {
    operands.count = count_of(operands);
    // Where the device counts, it computes bias corrections, too.
    if (!operands.count.by_device) memory_.bias_corrections.apply(h, operands.count.value);
  }
  return h;
}

// Whether the update of a parameter without state is that of a first step.
bool Walk::counts_as_first(const Operands& operands) {
  if (!step_.scaling.is_read_by(operands.device)) return true;
  // The host does not know whether this will be a first step at all. A buffer of zeros comes to the same without
  // dampening; with it, the host has to wait for the device this once.
  if (operands.group.numbers.dampening == 0) return false;
  if (!step_.scaling.is_known()) pending_.scaling = true;
  return true;
}

// The count of this step, by the host or by the device.
Walk::Count Walk::count_of(const Operands& operands) {
  const at::Tensor* before = operands.state ? &THPVariable_Unpack(operands.state->step) : nullptr;
  const at::Device device = operands.device;
  if (before != nullptr && is_device_number(*before, device)) return {.by_device = true};
  Count count;
  count.value = before != nullptr ? step_count(*before) + 1 : 1;
  // By torch's own rule, and where the device alone knows whether a step counts.
  count.by_device = is_asynchronous(device.type()) && (step_.scaling.is_read_by(device) || operands.group.capturable);
  count.is_to_move = count.by_device && before != nullptr;
  return count;
}

// Whether its state is there, and its count where it is to be.
bool Walk::is_ready(const Operands& operands) {
  const Count& count = operands.count;
  if (!operands.state && operands.rule().states > 0) {
    pending_.stateless.push_back({borrow(operands.object), operands.dict != nullptr, operands.group, count.by_device});
    return false;
  }
  if (count.is_to_move) {
    PyObject* const dict = operands.first_state != nullptr ? operands.first_state : operands.dict;
    pending_.host_counts.push_back({borrow(dict), operands.group.rule, count.value - 1, operands.device});
    return false;
  }
  return true;
}

void Walk::append(const Operands& operands, const math::Hyperparameters& h, DeviceNumber rate) {
  const at::Tensor &param = operands.param(), &gradient = *operands.gradient;
  const bool is_dtensor = operands.parameter.is_dtensor;
  static const State none;
  const auto& [tensors, locals, step, unserved] = operands.state ? *operands.state : none;
  const auto dtype = param.scalar_type();
  const auto state_dtype = operands.state ? THPVariable_Unpack(locals[0]).scalar_type() : dtype;
  const Scaling& scaling = step_.scaling;
  const bool unscaled = scaling.is_read_by(operands.device) ? scaling.has_scale() : h.inverse_scale != 1;

  Row row{plan_.operand(param, param), plan_.operand(gradient, param, unscaled), {}, {}, 0};
  Source& source = plan_.sources.back();
  if (is_dtensor) {
    plan_.held.push_back(borrow(operands.local.tensor));
    if (unscaled) plan_.written.push_back(borrow(operands.dtensor_gradient));
  } else {
    plan_.gradients.push_back({gradient, unscaled});
  }
  for (int i = 0; i < operands.rule().states; ++i) {
    row.states[i] = plan_.operand(THPVariable_Unpack(locals[i]), param);
    source.states[i] = tensors[i]; // as in torch, it is the DTensor that is of a new version
    if (is_dtensor) plan_.held.push_back(borrow(locals[i]));
  }
  source.step = step;
  if (operands.count.by_device) {
    row.step = device_number(THPVariable_Unpack(step));
  } else if (operands.rule().counts_steps) {
    source.count = operands.count.value;
  }
  auto& table = plan_.table(operands.device, operands.group.rule, *elements_of(dtype, state_dtype));
  source.table = static_cast<int32_t>(&table - plan_.tables.data());
  source.row = table.append(row, param.numel(), h, rate, source.count);
  if (operands.dict != nullptr) source.dict_version = version_of(operands.dict);

  if (operands.first_state == nullptr) return;
  if (operands.dict == nullptr)
    throw std::runtime_error(operands.parameter.describe() + ": optimizer.state keeps nothing for it");
  plan_.first_states.emplace_back(borrow(operands.dict), borrow(operands.first_state));
}

} // namespace

Pending walk(Memory& memory, const StepFacts& step, Plan& plan, std::vector<ReadGroup>& groups, PyObject* state) {
  return Walk(memory, step, plan).over(groups, state);
}

} // namespace lerac_fast::engine
