#include "engine/hyperparameters.h"

#include <cmath>
#include <tuple>

namespace lerac_fast::engine {

namespace py = pybind11;

math::Hyperparameters read_hyperparameters(Optimizer optimizer, const Group& group) {
  using Field = GroupField;
  math::Hyperparameters h;
  h.lr = group.non_negative(Field::kLr);
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
    bias_correction1_ = 1 - std::pow(beta1_, t_);
    sqrt_bias_correction2_ = std::sqrt(1 - std::pow(beta2_, t_));
  }
  h.bias_correction1 = bias_correction1_;
  h.sqrt_bias_correction2 = sqrt_bias_correction2_;
}

} // namespace lerac_fast::engine
