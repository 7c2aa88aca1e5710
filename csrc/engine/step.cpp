#include "engine/step.h"

#include <ATen/core/grad_mode.h>
#include <stdexcept>

namespace lerac_fast::engine {

void Step::operator()(PyObject* param_groups, PyObject* state, Scaling scaling,
                      const pybind11::function& step_unserved) {
  if (running_)
    throw std::runtime_error("step() is already running on this optimizer, in another thread or around this call");
  struct Running {
    Step& step;
    explicit Running(Step& s) : step(s) { step.running_ = true; }
    ~Running() {
      step.plan_.clear();
      step.running_ = false;
    }
  } running(*this);
  const at::NoGradGuard no_grad;
  find_dtensor_class();
  StepFacts step;
  step.scaling = std::move(scaling);
  while (!step.overflown()) {
    auto groups = read_groups(optimizer_, param_groups, memory_.groups); // owned until the end of this turn
    ask_what_captures(step);
    Pending pending = walk(memory_, step, plan_, groups, state);
    if (!pending.any()) {
      run(plan_, step.scaling);
      hand_over(plan_);
      return;
    }
    plan_.clear();
    do_pending(std::move(pending), state, step, memory_.known_layouts, step_unserved);
  }
}

// Of the devices that the last steps were for.
void Step::ask_what_captures(StepFacts& step) const {
  for (const auto& table : plan_.tables) {
    if (facts_of(table.rule).states > 0) step.ask_whether_captures(table.device);
  }
}

} // namespace lerac_fast::engine
