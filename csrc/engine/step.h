// One optimizer step: reads and checks everything first, then changes things.
#pragma once

#include "engine/walk.h"

namespace lerac_fast::engine {

// After so many renewals, the next walk is not expected soon. Where some parameters have a gradient now and then, walks
// are frequent, and what is known of the last one makes them shorter.
inline constexpr int kRenewalsWithoutWalk = 16;

// Steps one optimizer. Parameters, gradients, states and groups may be replaced at any time between steps.
class Step {
 public:
  explicit Step(Optimizer optimizer) : optimizer_(optimizer) {}

  // Applies one update to every parameter that has a gradient.
  //   param_groups, state: the optimizer's own.
  //   scaling: of the loss. Gradients are divided by it, in the update and in place; nothing changes on overflow.
  //   step_unserved: called with a list of (group index, parameter index, reason) where parameters are beyond the
  //     native kernels; it runs after everything was checked and before anything native has changed.
  // RuntimeError where another thread, or `step_unserved`, calls it while it runs, or where a graph is being captured
  // that would not do at its replays what a step does.
  void operator()(PyObject* param_groups, PyObject* state, Scaling scaling, const pybind11::function& step_unserved);

 private:
  void ask_what_captures(StepFacts& step) const;
  void carry_out(Scaling& scaling);

  Optimizer optimizer_;
  Memory memory_;
  Plan plan_;        // empty between steps, or kept
  int renewals_ = 0; // of the plan, since the last walk
  bool running_ = false;
};

} // namespace lerac_fast::engine
