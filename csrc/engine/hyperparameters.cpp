#include "engine/hyperparameters.h"

#include <cmath>

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

struct Keys {
  Key lr{"lr"}, weight_decay{"weight_decay"}, eps{"eps"}, betas{"betas"}, momentum{"momentum"};
  Key dampening{"dampening"}, nesterov{"nesterov"}, amsgrad{"amsgrad"}, maximize{"maximize"};
  Key decoupled_weight_decay{"decoupled_weight_decay"}, differentiable{"differentiable"};
};

const Keys& keys() {
  static const Keys interned;
  return interned;
}

// Written so that NaN fails, too.
double non_negative(const Group& group, const Key& key) {
  const double value = group.number(key);
  if (value >= 0) return value;
  throw py::value_error(group.describe() + ": " + key.text() + " must be at least 0, got " + show(value));
}

void read_betas(const Group& group, math::Hyperparameters& h) {
  PyObject* betas = group.at(keys().betas);
  if (!(PyTuple_Check(betas) || PyList_Check(betas)) || PySequence_Fast_GET_SIZE(betas) != 2) {
    throw py::type_error(group.describe() + ": betas must be a pair of numbers, got " + std::string(py::repr(betas)));
  }
  double* const targets[] = {&h.beta1, &h.beta2};
  for (Py_ssize_t i = 0; i < 2; ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(betas, i);
    const double beta = PyFloat_CheckExact(item) ? PyFloat_AS_DOUBLE(item)
                                                 : to_number(item, group.describe() + ": betas");
    if (!(beta >= 0 && beta < 1)) {
      throw py::value_error(group.describe() + ": betas must lie in [0, 1), got " + show(beta));
    }
    *targets[i] = beta;
  }
}

} // namespace

math::Hyperparameters read_hyperparameters(Optimizer optimizer, const Group& group) {
  const Keys& key = keys();
  math::Hyperparameters h;
  h.lr = non_negative(group, key.lr);
  h.weight_decay = non_negative(group, key.weight_decay);
  h.maximize = group.flag(key.maximize);
  if (group.flag(key.differentiable)) {
    throw py::value_error(group.describe() + ": differentiable=True is not supported: the fused step writes the "
                                             "parameters without autograd. Use torch.optim for it");
  }
  switch (optimizer) {
    case Optimizer::kSgd:
      h.momentum = non_negative(group, key.momentum);
      h.dampening = group.number(key.dampening);
      h.nesterov = group.flag(key.nesterov);
      break;
    case Optimizer::kAdam:
      h.amsgrad = group.flag(key.amsgrad);
      h.decoupled_weight_decay = group.flag(key.decoupled_weight_decay);
      [[fallthrough]];
    case Optimizer::kAdamax:
      h.eps = non_negative(group, key.eps);
      read_betas(group, h);
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
    bias_correction1_ = 1 - std::pow(beta1_, t_);
    sqrt_bias_correction2_ = std::sqrt(1 - std::pow(beta2_, t_));
  }
  h.bias_correction1 = bias_correction1_;
  h.sqrt_bias_correction2 = sqrt_bias_correction2_;
}

} // namespace lerac_fast::engine
