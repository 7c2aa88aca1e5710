// Reads the hyperparameters of a param group. They are read anew at every step: schedulers and users write them.
#pragma once

#include "engine/group.h"
#include "engine/row.h"
#include "math/hyperparameters.h"

namespace lerac_fast::engine {

// The optimizers, by the keys of their param groups and states. AdamW is Adam with `decoupled_weight_decay`.
enum class Optimizer { kSgd, kAdam, kAdamax };

// The group's hyperparameters; ValueError, TypeError or KeyError naming the group and the value where they are not
// valid. Without its lr, which stays 0, if that is not to be read.
math::Hyperparameters read_hyperparameters(Optimizer optimizer, const Group& group, bool read_rate = true);

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
