// How a step reads and checks its operands: nothing is changed here.
#pragma once

#include <optional>

#include "engine/pending.h"
#include "engine/plan.h"
#include "engine/read_group.h"
#include "engine/shared_memory.h"
#include "engine/state.h"
#include "engine/state_index.h"

namespace lerac_fast::engine {

// What an optimizer keeps between steps: memory, and indices that every walk checks against the live objects.
struct Memory {
  KnownParameters known_parameters;
  SharedMemory shared_memory;
  BiasCorrections bias_corrections;
  Footprints<3> groups;
  Footprints<17> parameters; // enough for Adam
};

// One walk over all parameters: checks them and takes the pointers to their operands. Python code could free what these
// point to, so none runs from the beginning of a walk until the kernels are done and the new states handed over. What
// takes Python code is noted as pending.
class Walk {
 public:
  Walk(Memory& memory, const StepFacts& step, Plan& plan) : memory_(memory), step_(step), plan_(plan) {}

  // Fills the plan, which is of use where nothing is pending.
  Pending over(std::vector<ReadGroup>& groups, PyObject* state);

 private:
  struct Count {
    double value = 0;        // of this step, if the host knows it
    bool by_device = false;  // counted by the kernels
    bool is_to_move = false; // which do not find it on the device yet
  };
  // A parameter with a gradient, as it is read.
  struct Operands {
    Parameter parameter;
    ReadGroup& group;
    PyObject* object;
    const at::Tensor& gradient;
    PyObject* dict;        // in the optimizer's state, or nullptr
    PyObject* first_state; // that was made in this step, where the optimizer's has none; or nullptr
    bool is_first;
    std::optional<State> state;
    Count count;

    const at::Tensor& param() const { return parameter.tensor; }
    at::Device device() const { return param().device(); }
    const RuleFacts& rule() const { return facts_of(group.rule); }
  };

  void read(ReadGroup& group, Py_ssize_t index, PyObject* object);
  bool is_served(Operands& operands);
  void check_capture(const Operands& operands);
  bool is_capturing(at::Device device);
  math::Hyperparameters numbers_of(Operands& operands);
  bool counts_as_first(const Operands& operands);
  Count count_of(const Operands& operands);
  bool is_ready(const Operands& operands);
  void append(const Operands& operands, const math::Hyperparameters& h, DeviceNumber rate, Footprint<17>& footprint);

  Memory& memory_;
  const StepFacts& step_;
  Plan& plan_;
  Pending pending_;
};

} // namespace lerac_fast::engine
