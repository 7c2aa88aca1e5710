// Everything that the update of one tensor depends on besides its elements. In double: each rule narrows what it needs.
#pragma once

#include "math/inline.h"

namespace lerac_fast::math {

struct Hyperparameters {
  double lr = 0;
  double weight_decay = 0;
  double eps = 0;       // Adam, AdamW, Adamax
  double beta1 = 0;     // Adam, AdamW, Adamax
  double beta2 = 0;     // Adam, AdamW, Adamax
  double momentum = 0;  // SGD
  double dampening = 0; // SGD
  bool nesterov = false;
  bool amsgrad = false;
  bool maximize = false;
  bool decoupled_weight_decay = false;

  // What may differ between the tensors of one group, because each counts its own steps.
  double bias_correction1 = 1;      // 1 - beta1^t
  double sqrt_bias_correction2 = 1; // sqrt(1 - beta2^t)
  bool first_step = false;          // SGD: the momentum buffer holds nothing yet

  // 1 / the loss scale of a GradScaler; 1 when the gradients are not scaled.
  double inverse_scale = 1;

  LERAC_INLINE double gradient_factor() const { return maximize ? -inverse_scale : inverse_scale; }

  bool operator==(const Hyperparameters&) const = default;
};

} // namespace lerac_fast::math
