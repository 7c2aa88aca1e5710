// Reads the hyperparameters of a param group. They are read anew whenever they may have changed: schedulers and users
// write them.
#pragma once

#include <ATen/core/Tensor.h>

#include "engine/group.h"
#include "engine/rules.h"

namespace lerac_fast::engine {

// The group's numbers; ValueError, TypeError or KeyError naming the group and the value where they are not valid. A
// rate that is a number on a device, for its kernels to read, goes to `rate`, and lr stays 0.
math::GroupNumbers read_numbers(Optimizer optimizer, const Group& group, at::Tensor* rate = nullptr);

// The update rule that these numbers ask for.
Rule rule_of(Optimizer optimizer, const math::GroupNumbers& h);

// Bias corrections of the moments at step t (counted from 1); computed in double and remembered, as all tensors of a
// model usually count alike.
class BiasCorrections {
 public:
  void apply(math::Hyperparameters& h, double t) {
    if (h.beta1 != last_.beta1 || h.beta2 != last_.beta2 || t != t_) correct(h, t);
    h.bias_correction1 = last_.bias_correction1;
    h.sqrt_bias_correction2 = last_.sqrt_bias_correction2;
  }

 private:
  void correct(const math::Hyperparameters& h, double t);

  double t_ = -1;
  math::Hyperparameters last_;
};

} // namespace lerac_fast::engine
