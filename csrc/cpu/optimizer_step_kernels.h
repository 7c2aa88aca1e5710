// The inner loops of the optimizer step, compiled once per instruction set.
#pragma once

#include "engine/rules.h"

namespace lerac_fast::cpu {

// Updates elements [begin, end) of one row.
using UpdateRange = void (*)(const engine::Row&, const math::Hyperparameters&, int64_t begin, int64_t end);

struct OptimizerStepKernels {
  UpdateRange update[engine::kRules][engine::kElements];
};

// One definition per instruction set that the build compiled; see CMakeLists.txt.
extern const OptimizerStepKernels optimizer_step_kernels_baseline;
extern const OptimizerStepKernels optimizer_step_kernels_avx2;
extern const OptimizerStepKernels optimizer_step_kernels_avx512;

} // namespace lerac_fast::cpu
