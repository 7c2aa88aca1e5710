// A plan that is kept for the next step, and its renewal: of all that a walk reads, only what may have changed is read.
#pragma once

#include "engine/walk.h"

namespace lerac_fast::engine {

// Keeps a plan that has been carried out, where it can be renewed: plain tensors, and groups and states that hold
// nothing but numbers and tensors.
//   groups, state_version: as they were read before the walk.
void keep(Plan& plan, const std::vector<ReadGroup>& groups, uint64_t state_version, const StepFacts& step);

// Makes a kept plan that of the next step, where the groups have the same parameters, and these have the same states,
// at the same places: with the gradients, hyperparameters and counts of now. False where something else is new; the
// plan is of no use then, and a walk is to make another. Raises as a walk does. Whatever the kept plan borrows is
// looked up anew, from the optimizer down, before it is read.
bool renew(Plan& plan, Memory& memory, Optimizer optimizer, PyObject* param_groups, PyObject* state,
           const StepFacts& step);

} // namespace lerac_fast::engine
