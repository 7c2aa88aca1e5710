// How a step reads and checks its operands: nothing is changed here.
#pragma once

#include "engine/pending.h"
#include "engine/plan.h"
#include "engine/read_group.h"
#include "engine/shared_memory.h"
#include "engine/state_index.h"

namespace lerac_fast::engine {

// What an optimizer keeps between steps: memory, and indices that every walk checks against the live objects.
struct Memory {
  KnownParameters known_parameters;
  KnownLayouts known_layouts;
  SharedMemory shared_memory;
  BiasCorrections bias_corrections;

  // Gives back what shortens a walk alone.
  void forget_walks() {
    known_parameters = {};
    shared_memory = {};
  }
};

// Walks over all parameters once: checks them and takes the pointers to their operands. Python code could free what
// these point to, so none runs from the beginning of a walk until the kernels are done and the new states handed over.
// What takes Python code is noted as pending. The plan is filled, and of use where nothing is pending.
//   state: the optimizer's own.
Pending walk(Memory& memory, const StepFacts& step, Plan& plan, std::vector<ReadGroup>& groups, PyObject* state);

} // namespace lerac_fast::engine
