// Reads the hyperparameters of a param group. They are read anew at every step: schedulers and users write them.
#pragma once

#include "engine/group.h"
#include "engine/row.h"
#include "math/hyperparameters.h"

namespace lerac_fast::engine {

// The optimizers, by the keys of their param groups and states. AdamW is Adam with `decoupled_weight_decay`.
enum class Optimizer { kSgd, kAdam, kAdamax };

// The group's hyperparameters; ValueError, TypeError or KeyError naming the group and the value where they are not
// valid. A rate that is a number on a device, for its kernels to read, goes to `rate`, and lr stays 0.
math::Hyperparameters read_hyperparameters(Optimizer optimizer, const Group& group, at::Tensor* rate = nullptr);

// The update rule that these hyperparameters ask for.
Rule rule_of(Optimizer optimizer, const math::Hyperparameters& h);

// Bias corrections of the moments at step t (counted from 1); computed in double and remembered, as all tensors of a
// model usually count alike.
class BiasCorrections {
 public:
  void apply(math::Hyperparameters& h, double t);

 private:
  double beta1_ = -1, beta2_ = -1, t_ = -1;
  double bias_correction1_ = 1, sqrt_bias_correction2_ = 1;
};

} // namespace lerac_fast::engine
