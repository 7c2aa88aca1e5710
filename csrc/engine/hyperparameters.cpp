#include "engine/hyperparameters.h"

#include <tuple>

#include "engine/python_tensor.h"
#include "engine/tensor_table.h"
#include "math/bias_correction.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

// Whether kernels read this object where it lies.
bool is_device_number(PyObject* object) {
  return is_tensor(object) && engine::is_device_number(THPVariable_Unpack(object), THPVariable_Unpack(object).device());
}

inline void read_field(GroupField field, const Group& group, math::GroupNumbers& h) {
  switch (field) {
  case GroupField::kWeightDecay:
    h.weight_decay = group.non_negative(field);
    return;
  case GroupField::kMaximize:
    h.maximize = group.flag(field);
    return;
  case GroupField::kMomentum:
    h.momentum = group.non_negative(field);
    return;
  case GroupField::kDampening:
    h.dampening = group.number(field);
    return;
  case GroupField::kNesterov:
    h.nesterov = group.flag(field);
    return;
  case GroupField::kBetas:
    std::tie(h.beta1, h.beta2) = group.betas();
    return;
  case GroupField::kEps:
    h.eps = group.non_negative(field);
    return;
  case GroupField::kAmsgrad:
    h.amsgrad = group.flag(field);
    return;
  case GroupField::kDecoupledWeightDecay:
    h.decoupled_weight_decay = group.flag(field);
    return;
  case GroupField::kDifferentiable:
    if (!group.flag(field)) return;
    throw py::value_error(group.describe() + ": differentiable=True is not supported: the fused step writes the "
                                             "parameters without autograd. Use torch.optim for it");
  case GroupField::kParams:
  case GroupField::kLr:
  case GroupField::kCapturable:
  case GroupField::kFused:
    return; // no numbers, or not from the group alone
  }
}

template <GroupField... fields> void read_fields(const Group& group, math::GroupNumbers& h) {
  (read_field(fields, group, h), ...);
}

} // namespace

math::GroupNumbers read_numbers(Optimizer optimizer, const Group& group, at::Tensor* rate) {
  using enum GroupField;
  math::GroupNumbers h;
  PyObject* const lr = group.at(kLr);
  if (rate != nullptr && !PyFloat_CheckExact(lr) && is_device_number(lr)) {
    *rate = THPVariable_Unpack(lr);
    group.is_fixed = false;
  } else {
    h.lr = group.non_negative(kLr, group.number(kLr, lr));
  }
  read_fields<kWeightDecay, kMaximize>(group, h);
  switch (optimizer) {
#define X(name, rule, ...)                                                                                             \
  case Optimizer::k##name:                                                                                             \
    read_fields<__VA_ARGS__>(group, h);                                                                                \
    break;
    LERAC_FAST_OPTIMIZERS(X)
#undef X
  }
  return h;
}

Rule rule_of(Optimizer optimizer, [[maybe_unused]] const math::GroupNumbers& h) {
  switch (optimizer) {
#define X(name, rule, ...)                                                                                             \
  case Optimizer::k##name:                                                                                             \
    return rule;
    LERAC_FAST_OPTIMIZERS(X)
#undef X
  }
  __builtin_unreachable();
}

void BiasCorrections::correct(const math::Hyperparameters& h, double t) {
  last_ = h;
  math::correct_bias(last_, t);
  t_ = t;
}

} // namespace lerac_fast::engine
