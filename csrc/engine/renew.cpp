#include "engine/renew.h"

#include <algorithm>

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
  bool group(Optimizer optimizer, size_t g, PyObject* dict);
  bool parameter(Source& source, PyObject* object);
  bool local_gradient(const Source& source, PyObject* spec, const at::Tensor*& gradient);
  bool gradient(const Kind& kind, Row& row, const at::Tensor& param, const at::Tensor& gradient);
  bool lies_alike(const Source& source, size_t operand, PyObject* spec, PyObject* other) const;
  bool states(const Kind& kind, const Row& row, const at::Tensor& param, const Source& source, PyObject* spec);
  bool step(const Kind& kind, const Row& row, Source& source);
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
    memory_.groups.ahead(g);
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

bool Renewal::parameters() {
  auto source = plan_.sources.begin();
  for (const Plan::Group& group : plan_.groups) {
    for (Py_ssize_t i = 0; i < group.size; ++i, ++source) {
      memory_.parameters.ahead(static_cast<size_t>(source - plan_.sources.begin()));
      if (!parameter(*source, PyList_GET_ITEM(group.params, i))) return false;
    }
  }
  return true;
}

bool Renewal::parameter(Source& source, PyObject* object) {
  if (object != source.param) return false;
  const Local local = local_of(object);
  if (local.spec == nullptr && !THPVariable_CheckExact(object)) return false;
  const at::Tensor* gradient = &THPVariable_Unpack(object).unsafeGetTensorImpl()->grad();
  if (gradient->defined() != source.has_row()) return false;
  if (!source.has_row()) return true;
  if (source.dict != nullptr && !is_unwritten(source.dict, source.dict_version)) return false;
  if (local.spec != nullptr) {
    if (!local_gradient(source, local.spec, gradient)) return false;
  } else if (!is_brief_) {
    plan_.gradients.push_back({*gradient, plan_.is_unscaled});
  }

  const at::Tensor& param = THPVariable_Unpack(local.tensor);
  const auto table = static_cast<size_t>(source.table);
  const Kind& kind = kinds_[table];
  Row& row = plan_.tables[table].rows[static_cast<size_t>(source.row)];
  memory_.parameters[static_cast<size_t>(&source - plan_.sources.data())].note_gradient(*gradient);
  return is_kind(param, kind.param, kind.device) && param.numel() == row.numel &&
         elements(param, kind.param_itemsize) == row.param && this->gradient(kind, row, param, *gradient) &&
         states(kind, row, param, source, local.spec) && step(kind, row, source);
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

bool Renewal::gradient(const Kind& kind, Row& row, const at::Tensor& param, const at::Tensor& gradient) {
  if (!is_kind(gradient, kind.param, kind.device) || !same_shape(gradient, param) ||
      !share_dense_layout(gradient, param))
    return false;
  row.gradient = elements(gradient, kind.param_itemsize, plan_.is_unscaled);
  return true;
}

bool Renewal::states(const Kind& kind, const Row& row, const at::Tensor& param, const Source& source, PyObject* spec) {
  for (int i = 0; i < kind.rule.states; ++i) {
    PyObject* object = source.states[i];
    if (spec != nullptr) { // of a DTensor
      const Local local = local_of(object);
      if (local.spec == nullptr ||
          !lies_alike(source, KnownLayouts::kFirstState + static_cast<size_t>(i), spec, local.spec))
        return false;
      object = local.tensor;
      if (!is_brief_) hold(object);
    }
    const at::Tensor& state = THPVariable_Unpack(object);
    if (!is_kind(state, kind.state, kind.device) || !same_shape(state, param) || !share_dense_layout(state, param) ||
        elements(state, kind.state_itemsize) != row.states[i])
      return false;
  }
  return true;
}

// Whether the count of steps is where it was; reads the host's.
bool Renewal::step(const Kind& kind, const Row& row, Source& source) {
  if (!kind.rule.counts_steps) return true;
  const at::Tensor& step = THPVariable_Unpack(source.step);
  if (row.step.address != nullptr) return is_device_number(step, kind.device) && device_number(step) == row.step;
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
  for (const ReadGroup& group : groups) {
    plan.groups.push_back({group.version, group.params.ptr(), group.size});
    plan.policies.push_back({group.numbers, group.rule, group.capturable});
  }
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
