#include "engine/step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <optional>
#include <stdexcept>
#include <utility>

#include "engine/dict_version.h"
#include "engine/held.h"
#include "engine/renew.h"

namespace lerac_fast::engine {

void Step::operator()(PyObject* param_groups, PyObject* state, Scaling scaling,
                      const pybind11::function& step_unserved) {
  if (running_)
    throw std::runtime_error("step() is already running on this optimizer, in another thread or around this call");
  struct Running {
    Step& step;
    explicit Running(Step& s) : step(s) { step.running_ = true; }
    ~Running() {
      if (!step.plan_.is_kept) step.plan_.clear();
      step.running_ = false;
    }
  } running(*this);
  const at::NoGradGuard no_grad;
  find_dtensor_class();
  StepFacts step;
  step.scaling = std::move(scaling);
  if (step.overflown()) return;
  const bool was_kept = std::exchange(plan_.is_kept, false); // until all has gone well
  ask_what_captures(step);
  if (was_kept && renew(plan_, memory_, optimizer_, param_groups, state, step)) {
    carry_out(step.scaling);
    plan_.release();
    plan_.is_kept = true;
    if (renewals_ < kRenewalsWithoutWalk && ++renewals_ == kRenewalsWithoutWalk) memory_.forget_walks();
    return;
  }
  renewals_ = 0;
  plan_.clear();
  do {
    auto groups = read_groups(optimizer_, param_groups); // owned until the end of this turn
    const uint64_t state_version = PyDict_Check(state) ? version_of(state) : 0;
    Pending pending = walk(memory_, step, plan_, groups, state);
    if (!pending.any()) {
      carry_out(step.scaling);
      return keep(plan_, groups, state_version, step);
    }
    plan_.clear();
    do_pending(std::move(pending), state, step, memory_.known_layouts, step_unserved);
  } while (!step.overflown());
}

void Step::carry_out(Scaling& scaling) {
  const bool keep_gil = plan_.is_brief();
  std::optional<Held> held;
  if (!keep_gil) held.emplace(plan_);
  RECORD_FUNCTION("lerac_fast::optimizer_step", c10::ArrayRef<const c10::IValue>{});
  run(plan_, scaling, keep_gil);
  hand_over(plan_);
}

// Of the devices that the last steps were for.
void Step::ask_what_captures(StepFacts& step) const {
  for (const auto& table : plan_.tables) {
    if (facts_of(table.rule).states > 0) step.ask_whether_captures(table.device);
  }
}

} // namespace lerac_fast::engine
