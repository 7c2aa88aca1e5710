#include "engine/renew.h"

#include <algorithm>
#include <array>

#include "engine/backend.h"
#include "engine/dict_version.h"
#include "engine/python_tensor.h"
#include "engine/state.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

// What all operands of a table's rows are.
struct Kind {
  at::Device device;
  at::ScalarType param, state;
  size_t param_itemsize, state_itemsize;
  const RuleFacts& rule;

  explicit Kind(const TensorTable& table)
      : device(table.device), param(dtypes_of(table.elements).param), state(dtypes_of(table.elements).state),
        param_itemsize(c10::elementSize(param)), state_itemsize(c10::elementSize(state)), rule(facts_of(table.rule)) {}
};

inline bool is_kind(const at::Tensor& tensor, at::ScalarType dtype, at::Device device) {
  return is_plain(tensor) && tensor.scalar_type() == dtype && tensor.device() == device;
}

// Where the elements of a plain tensor begin: Tensor::data_ptr without what is known of it already.
inline void* elements(const at::Tensor& tensor, size_t itemsize, bool written = true) {
  const auto* const impl = tensor.unsafeGetTensorImpl();
  const at::Storage& storage = impl->unsafe_storage();
  auto* const begin = static_cast<char*>(written ? storage.mutable_data() : const_cast<void*>(storage.data()));
  return impl->numel() == 0 ? nullptr : begin + itemsize * static_cast<size_t>(impl->storage_offset());
}

class Renewal {
 public:
  Renewal(Plan& plan, Memory& memory)
      : plan_(plan), memory_(memory), kinds_(plan.tables.begin(), plan.tables.end()), is_brief_(plan.is_brief()) {}

  bool groups(Optimizer optimizer, PyObject* param_groups);
  bool parameters();
  void numbers();

 private:
  struct Entry { // of a table
    const Kind& kind;
    Row& row;
  };
  struct Locals { // what a parameter and its states have in this process
    PyObject* param;
    std::array<PyObject*, kMaxStates> states;
  };

  bool group(Optimizer optimizer, size_t g, PyObject* dict);
  bool same_objects() const;
  bool parameter(const Source& source);
  bool local_gradient(const Source& source, PyObject* spec, const at::Tensor*& gradient);
  bool lies_alike(const Source& source, size_t operand, PyObject* spec, PyObject* other) const;
  bool find_locals(const Source& source, Locals& locals);
  bool state(Source& source, const Locals& locals);
  bool step(const Kind& kind, DeviceNumber known, Source& source);
  Entry entry_of(const Source& source) const {
    const auto table = static_cast<size_t>(source.table);
    return {kinds_[table], plan_.tables[table].rows[static_cast<size_t>(source.row)]};
  }
  int64_t numel_of(const Source& source) const {
    return plan_.tables[static_cast<size_t>(source.table)].numel(static_cast<size_t>(source.row));
  }
  void replace_numbers();
  void hold(PyObject* object) { plan_.held.push_back(py::reinterpret_borrow<py::object>(object)); }

  Plan& plan_;
  Memory& memory_;
  const std::vector<Kind> kinds_; // of the tables
  const bool is_brief_;
  bool other_numbers_ = false; // than those of the last step, but for counts that are one more
};

bool Renewal::groups(Optimizer optimizer, PyObject* param_groups) {
  if (!PyList_Check(param_groups)) return false;
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    if (PyList_GET_SIZE(param_groups) != static_cast<Py_ssize_t>(plan_.groups.size())) return false;
    if (!group(optimizer, g, PyList_GET_ITEM(param_groups, static_cast<Py_ssize_t>(g)))) return false;
  }
  return true;
}

bool Renewal::group(Optimizer optimizer, size_t g, PyObject* dict) {
  Plan::Group& known = plan_.groups[g];
  if (!PyDict_Check(dict)) return false;
  if (!is_unwritten(dict, known.version)) {                      // a scheduler wrote a rate, most likely
    const auto owned = py::reinterpret_borrow<py::object>(dict); // reading may run Python code
    const uint64_t version = version_of(dict);
    Plan::GroupPolicy& policy = plan_.policies[g];
    const Group group{dict, static_cast<Py_ssize_t>(g)};
    at::Tensor rate;
    const math::GroupNumbers numbers = read_numbers(optimizer, group, &rate);
    const bool capturable = facts_of(policy.rule).counts_steps && group.flag_or_false(GroupField::kCapturable);
    if (!group.is_fixed || group.at(GroupField::kParams) != known.params || capturable != policy.capturable ||
        rule_of(optimizer, numbers) != policy.rule)
      return false;
    other_numbers_ |= numbers != policy.numbers;
    policy.numbers = numbers;
    known.version = version;
  }
  return PyList_Check(known.params) && PyList_GET_SIZE(known.params) == known.size;
}

// First whether all are the same objects: from there on, whatever the plan borrows of them is alive. Then some at a
// time, one thing after another: the processor fetches from memory what the next few turns of a short loop need, all at
// once.
bool Renewal::parameters() {
  if (!same_objects()) return false;
  if (!is_brief_) plan_.gradients.reserve(plan_.sources.size());
  constexpr size_t kAtATime = 16;
  std::array<Locals, kAtATime> locals;
  for (size_t begin = 0, end; begin < plan_.sources.size(); begin = end) {
    end = std::min(begin + kAtATime, plan_.sources.size());
    for (size_t i = begin; i < end; ++i) {
      if (!parameter(plan_.sources[i])) return false;
    }
    for (size_t i = begin; i < end; ++i) {
      if (plan_.sources[i].has_row() && !find_locals(plan_.sources[i], locals[i - begin])) return false;
    }
    for (size_t i = begin; i < end; ++i) {
      if (plan_.sources[i].has_row() && !state(plan_.sources[i], locals[i - begin])) return false;
    }
  }
  return true;
}

// Whether the groups have the same parameters, and these the same states.
bool Renewal::same_objects() const {
  auto source = plan_.sources.begin();
  for (const Plan::Group& group : plan_.groups) {
    for (Py_ssize_t i = 0; i < group.size; ++i, ++source) {
      if (PyList_GET_ITEM(group.params, i) != source->param) return false;
    }
  }
  return std::all_of(plan_.sources.begin(), plan_.sources.end(), [](const Source& s) {
    return !s.has_row() || s.dict == nullptr || is_unwritten(s.dict, s.dict_version);
  });
}

// Whether a parameter is where it was; finds its gradient.
bool Renewal::parameter(const Source& source) {
  const Local local = local_of(source.param);
  if (local.spec == nullptr && !THPVariable_CheckExact(source.param)) return false;
  const at::Tensor* gradient = &THPVariable_Unpack(source.param).unsafeGetTensorImpl()->grad();
  if (gradient->defined() != source.has_row()) return false;
  if (!source.has_row()) return true;
  if (local.spec != nullptr) {
    if (!local_gradient(source, local.spec, gradient)) return false;
  } else if (!is_brief_) {
    plan_.gradients.push_back({*gradient, plan_.is_unscaled});
  }
  const at::Tensor& param = THPVariable_Unpack(local.tensor);
  const auto& [kind, row] = entry_of(source);
  if (!is_kind(param, kind.param, kind.device) || param.numel() != numel_of(source) ||
      elements(param, kind.param_itemsize) != row.param || !is_kind(*gradient, kind.param, kind.device) ||
      !same_shape(*gradient, param) || !share_dense_layout(*gradient, param))
    return false;
  row.gradient = elements(*gradient, kind.param_itemsize, plan_.is_unscaled);
  return true;
}

// Whether a DTensor and its gradient lie over processes as they did; finds the gradient's part.
bool Renewal::local_gradient(const Source& source, PyObject* spec, const at::Tensor*& gradient) {
  PyObject* const whole = python_of(*gradient);
  if (whole == nullptr) return false;
  const Local local = local_of(whole);
  if (local.spec == nullptr || !lies_alike(source, KnownLayouts::kParameter, spec, spec) ||
      !lies_alike(source, KnownLayouts::kGradient, spec, local.spec))
    return false;
  gradient = &THPVariable_Unpack(local.tensor);
  if (!is_brief_) hold(local.tensor);
  if (plan_.is_unscaled)
    plan_.written.push_back(py::reinterpret_borrow<py::object>(whole));
  else if (!is_brief_)
    hold(whole);
  return true;
}

bool Renewal::lies_alike(const Source& source, size_t operand, PyObject* spec, PyObject* other) const {
  return memory_.known_layouts.of(source.place, operand, spec, other) == Layout::kSame;
}

// Whether the states of a DTensor lie over processes as they did; finds their parts.
bool Renewal::find_locals(const Source& source, Locals& locals) {
  const Local param = local_of(source.param);
  locals = {param.tensor, source.states};
  if (param.spec == nullptr) return true;
  for (size_t i = 0; i < static_cast<size_t>(entry_of(source).kind.rule.states); ++i) {
    const Local state = local_of(source.states[i]);
    if (state.spec == nullptr || !lies_alike(source, KnownLayouts::kFirstState + i, param.spec, state.spec))
      return false;
    locals.states[i] = state.tensor;
    if (!is_brief_) hold(state.tensor);
  }
  return true;
}

// Whether the state of a parameter is where it was; reads the host's count of steps.
bool Renewal::state(Source& source, const Locals& locals) {
  const auto& [kind, row] = entry_of(source);
  const at::Tensor& param = THPVariable_Unpack(locals.param);
  for (size_t i = 0; i < static_cast<size_t>(kind.rule.states); ++i) {
    const at::Tensor& state = THPVariable_Unpack(locals.states[i]);
    if (!is_kind(state, kind.state, kind.device) || !same_shape(state, param) || !share_dense_layout(state, param) ||
        elements(state, kind.state_itemsize) != row.states[i])
      return false;
  }
  return !kind.rule.counts_steps || step(kind, row.step, source);
}

bool Renewal::step(const Kind& kind, DeviceNumber known, Source& source) {
  const at::Tensor& step = THPVariable_Unpack(source.step);
  if (!known.is_known_to_host()) return is_device_number(step, kind.device) && device_number(step) == known;
  if (!is_kind(step, at::kFloat, at::kCPU) || step.numel() != 1) return false;
  const double count = step_count(step) + 1;
  other_numbers_ |= count != source.count + 1;
  source.count = count;
  return true;
}

// After all parameters were found to be where they were.
void Renewal::numbers() {
  if (other_numbers_) return replace_numbers();
  for (TensorTable& table : plan_.tables) {
    for (size_t i = 0; i < table.counts.size(); ++i) {
      if (table.counts[i] != kUncounted) memory_.bias_corrections.apply(table.hyperparameters[i], ++table.counts[i]);
    }
  }
}

void Renewal::replace_numbers() {
  for (TensorTable& table : plan_.tables) table.clear_numbers();
  auto source = plan_.sources.begin();
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    for (const auto end = source + plan_.groups[g].size; source != end; ++source) {
      if (!source->has_row()) continue;
      math::Hyperparameters h{plan_.policies[g].numbers, {}, {}};
      if (source->count != kUncounted) memory_.bias_corrections.apply(h, source->count);
      TensorTable& table = plan_.tables[static_cast<size_t>(source->table)];
      table.rows[static_cast<size_t>(source->row)].hyperparameters = table.append(h, {}, source->count);
    }
  }
}

bool have_fixed_numbers(const std::vector<ReadGroup>& groups) {
  return std::all_of(groups.begin(), groups.end(),
                     [](const ReadGroup& group) { return group.group.is_fixed && group.version != 0; });
}

// Notes what is scaled and by whom, if that is the same for all rows and no number of the host's.
bool keep_scaling(Plan& plan, const Scaling& scaling) {
  bool any_on_device = false, any_on_host = false;
  for (const TensorTable& table : plan.tables) {
    if (table.rows.empty()) continue;
    (scaling.is_read_by(table.device) ? any_on_device : any_on_host) = true;
  }
  plan.scaling_is_on_device = any_on_device;
  plan.is_unscaled = scaling.has_scale();
  return !(any_on_device && any_on_host) && !(any_on_host && scaling.has_scale());
}

// Whether the devices do what they did: no graph is being captured, and the loss scale is where it was. Where the host
// has to ask a device whether there was an overflow, a walk asks.
bool same_devices(const Plan& plan, const StepFacts& step) {
  if (step.scaling.has_scale() != plan.is_unscaled) return false;
  if (!step.scaling.is_known() && !plan.scaling_is_on_device) return false;
  return std::all_of(plan.tables.begin(), plan.tables.end(), [&](const TensorTable& table) {
    return table.rows.empty() || (find_backend(table.device.type()) != nullptr &&
                                  step.scaling.is_read_by(table.device) == plan.scaling_is_on_device &&
                                  !step.is_capturing(table.device).value_or(false));
  });
}

} // namespace

void keep(Plan& plan, const std::vector<ReadGroup>& groups, uint64_t state_version, const StepFacts& step) {
  const bool has_all = plan.scattered.empty() && plan.first_states.empty() && step.redistributed.empty() &&
                       step.stepped_by_parent.empty() && state_version != 0;
  if (!has_all || !have_fixed_numbers(groups) || !keep_scaling(plan, step.scaling)) return plan.clear();
  plan.groups.reserve(groups.size());
  plan.policies.reserve(groups.size());
  for (const ReadGroup& group : groups) {
    plan.groups.push_back({group.version, group.params.ptr(), group.size});
    plan.policies.push_back({group.numbers, group.rule, group.capturable});
  }
  for (TensorTable& table : plan.tables) table.fit();
  plan.state_version = state_version;
  plan.is_kept = true;
  plan.release();
}

bool renew(Plan& plan, Memory& memory, Optimizer optimizer, PyObject* param_groups, PyObject* state,
           const StepFacts& step) {
  if (!PyDict_Check(state) || !is_unwritten(state, plan.state_version) || !same_devices(plan, step)) return false;
  Renewal renewal(plan, memory);
  if (!renewal.groups(optimizer, param_groups) || !renewal.parameters()) return false;
  renewal.numbers();
  return true;
}

} // namespace lerac_fast::engine
