// What a walk finds to be done before the kernels can run, as it takes Python code: a new walk follows.
#pragma once

#include <string>
#include <vector>

#include "engine/dtensor.h"
#include "engine/read_group.h"
#include "engine/step_facts.h"

namespace lerac_fast::engine {

struct Pending {
  struct Unserved {
    Py_ssize_t group, index;
    std::string reason;
    pybind11::object param;
  };
  struct Stateless {
    pybind11::object param;
    bool has_dict; // in the optimizer's state, with nothing of the rule's in it
    const ReadGroup& group;
    bool step_on_device;
  };
  struct HostCount { // a step count that is to go to the device, where the kernels count
    pybind11::object dict;
    Rule rule;
    double value;
    at::Device device;
  };

  struct Redistribution { // of a gradient that does not lie as its parameter does
    pybind11::object param, gradient, spec;
  };

  std::vector<Comparison> layouts;
  std::vector<at::Device> devices; // of which it is not known whether they capture a graph
  bool scaling = false;            // the host has to wait for the loss scale
  std::vector<Redistribution> redistributions;
  std::vector<Unserved> unserved;
  std::vector<Stateless> stateless;
  std::vector<HostCount> host_counts;

  bool any() const {
    return !layouts.empty() || !devices.empty() || scaling || !redistributions.empty() || !unserved.empty() ||
           !stateless.empty() || !host_counts.empty();
  }
};

// Does it, one kind at a time, that what can be refused is refused before something changes.
//   state: the optimizer's own, where states will have their places.
//   known_layouts: where comparisons are kept.
//   step_unserved: see Step.
void do_pending(Pending pending, PyObject* state, StepFacts& step, KnownLayouts& known_layouts,
                const pybind11::function& step_unserved);

} // namespace lerac_fast::engine
