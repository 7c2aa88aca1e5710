#include "engine/hyperparameters.h"

#include <tuple>

#include "engine/parameter.h"
#include "engine/python_tensor.h"
#include "math/bias_correction.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

// Whether kernels read this object where it lies.
bool is_device_number(PyObject* object) {
  return is_tensor(object) && engine::is_device_number(THPVariable_Unpack(object), THPVariable_Unpack(object).device());
}

} // namespace

math::Hyperparameters read_hyperparameters(Optimizer optimizer, const Group& group, at::Tensor* rate) {
  using Field = GroupField;
  math::Hyperparameters h;
  PyObject* const lr = group.at(Field::kLr);
  if (rate != nullptr && !PyFloat_CheckExact(lr) && is_device_number(lr))
    *rate = THPVariable_Unpack(lr);
  else
    h.lr = group.non_negative(Field::kLr, group.number(Field::kLr, lr));
  h.weight_decay = group.non_negative(Field::kWeightDecay);
  h.maximize = group.flag(Field::kMaximize);
  if (group.flag(Field::kDifferentiable)) {
    throw py::value_error(group.describe() + ": differentiable=True is not supported: the fused step writes the "
                                             "parameters without autograd. Use torch.optim for it");
  }
  switch (optimizer) {
  case Optimizer::kSgd:
    h.momentum = group.non_negative(Field::kMomentum);
    h.dampening = group.number(Field::kDampening);
    h.nesterov = group.flag(Field::kNesterov);
    break;
  case Optimizer::kAdam:
    h.amsgrad = group.flag(Field::kAmsgrad);
    h.decoupled_weight_decay = group.flag(Field::kDecoupledWeightDecay);
    [[fallthrough]];
  case Optimizer::kAdamax:
    h.eps = group.non_negative(Field::kEps);
    std::tie(h.beta1, h.beta2) = group.betas();
    break;
  }
  return h;
}

Rule rule_of(Optimizer optimizer, const math::Hyperparameters& h) {
  switch (optimizer) {
  case Optimizer::kSgd:
    return h.momentum != 0 ? Rule::kSgdMomentum : Rule::kSgd;
  case Optimizer::kAdam:
    return h.amsgrad ? Rule::kAdamAmsgrad : Rule::kAdam;
  default:
    return Rule::kAdamax;
  }
}

void BiasCorrections::apply(math::Hyperparameters& h, double t) {
  if (h.beta1 != beta1_ || h.beta2 != beta2_ || t != t_) {
    beta1_ = h.beta1;
    beta2_ = h.beta2;
    t_ = t;
    math::correct_bias(h, t);
    bias_correction1_ = h.bias_correction1;
    sqrt_bias_correction2_ = h.sqrt_bias_correction2;
  }
  h.bias_correction1 = bias_correction1_;
  h.sqrt_bias_correction2 = sqrt_bias_correction2_;
}

} // namespace lerac_fast::engine
