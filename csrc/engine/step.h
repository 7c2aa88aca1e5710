// One optimizer step: reads and checks everything first, then changes things.
#pragma once

#include <pybind11/pybind11.h>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/footprint.h"
#include "engine/hyperparameters.h"
#include "engine/parameter.h"
#include "engine/scaling.h"
#include "engine/shared_memory.h"
#include "engine/state_index.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// Steps one optimizer. What it keeps between steps is only memory and an index that every step checks against the live
// objects, so parameters, gradients, states and groups may be replaced at any time.
//
// A step walks over all parameters, checks them and takes the pointers to their operands. Python code could free what
// these point to, so none runs from the beginning of a walk until the kernels are done and the new states handed over.
// What takes Python code, the walk notes as pending; it is done, and a new walk begins, until one finds nothing
// pending.
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
  struct Place {
    size_t table, row;
  };
  // Which of a row's pointers an operand stands behind: a state by its index, or one of these.
  static constexpr int kParam = -1, kGradient = -2;

  // A param group as this step has read it.
  struct ReadGroup {
    Group group;
    pybind11::object dict, params;
    math::Hyperparameters h;
    at::Tensor rate; // a number on a device, where kernels read it; undefined: it is among the hyperparameters
    bool rate_in_h, capturable;
  };
  // An operand whose elements do not lie in the row's order: it is updated through a dense copy.
  struct Scattered {
    at::Tensor original, dense;
    bool written;
  };
  struct Count {
    double value = 0;        // of this step, if the host knows it
    bool by_device = false;  // counted by the kernels
    bool is_to_move = false; // which do not find it on the device yet
  };
  struct Gradient {
    at::Tensor tensor;
    bool written;
  };
  // A state that was made for a parameter and is not yet in the optimizer's.
  struct FirstState {
    pybind11::object param, dict;
  };

  // What a walk has found to be done before the kernels can run.
  struct Unserved {
    Py_ssize_t group, index;
    std::string reason;
    pybind11::object param;
  };
  struct Stateless {
    pybind11::object param;
    bool has_dict; // in the optimizer's state, with nothing of the rule's in it
    Group group;
    pybind11::object group_dict;
    Rule rule;
    bool step_on_device;
  };
  struct HostCount { // a step count that is to go to the device, where the kernels count
    pybind11::object dict;
    double value;
    at::Device device;
  };
  struct Pending {
    std::vector<at::Device> devices; // of which it is not known whether they capture a graph
    bool scaling = false;            // the host has to wait for the loss scale
    std::vector<Unserved> unserved;
    std::vector<Stateless> stateless;
    std::vector<HostCount> host_counts;

    bool any() const {
      return !devices.empty() || scaling || !unserved.empty() || !stateless.empty() || !host_counts.empty();
    }
  };

  // Reading and checking: nothing is changed. In collect.cpp.
  void read_groups(PyObject* param_groups);
  void walk(PyObject* state);
  void collect(ReadGroup& read, Py_ssize_t index, PyObject* object);
  void check_capturable(const Parameter& parameter);
  PyObject* first_state_of(PyObject* param);
  void collect_scaling(at::Device device, math::Hyperparameters& h);
  bool counts_as_first(Rule rule, const math::Hyperparameters& h, at::Device device);
  Count read_count(ReadGroup& read, at::Device device, const std::optional<State>& state);
  DeviceNumber read_rate(ReadGroup& read, at::Device device);
  void check_capture(const Parameter& parameter, Rule rule, const std::optional<State>& state);
  bool is_capturing(at::Device device);
  PyObject* state_dict_of(PyObject* param);
  void check_no_parameter_twice();
  Place append_row(at::Device device, Rule rule, Elements elements, int64_t numel, const math::Hyperparameters& h,
                   DeviceNumber rate);
  void set_operand(Place place, int operand, const at::Tensor& tensor, const at::Tensor& param, bool written = true);
  Row& row(Place place) { return tables_[place.table].rows[place.row]; }
  void*& pointer(Place place, int operand);

  // What changes things.
  void ask_what_captures();
  void ask_whether_captures(at::Device device);
  void do_pending(PyObject* state, const pybind11::function& step_unserved);
  void step_by_parent(std::vector<Unserved> unserved, const pybind11::function& step_unserved);
  void create_state(const Stateless& stateless, PyObject* state);
  void run();
  void hand_over();
  void forget_walk();
  void forget_step();

  Optimizer optimizer_;
  StateIndex state_index_;
  BiasCorrections bias_corrections_;
  // Every parameter of the last walk and its state dictionary: spares the look-up where neither has moved.
  std::vector<std::pair<PyObject*, PyObject*>> walk_;
  size_t walked_ = 0;
  uint64_t walk_generation_ = 0;   // of the state index that the walk's dictionaries are from
  bool no_parameter_twice_ = true; // checked for the walk as it stands
  Footprints<3> group_footprints_;
  Footprints<17> footprints_; // enough for Adam
  SharedMemory shared_memory_;

  // Of the step under way.
  bool running_ = false;
  Scaling scaling_;
  std::vector<ReadGroup> groups_;
  std::vector<std::pair<at::Device, bool>> capturing_;
  std::unordered_map<PyObject*, pybind11::object> stepped_by_parent_;
  std::unordered_map<PyObject*, FirstState> first_states_;

  // Of the walk under way. Operands are held so that they stay alive while the GIL is released: parameters and states
  // by their Python objects, as taking another C++ reference to a tensor that Python owns is slow.
  Pending pending_;
  std::vector<TensorTable> tables_; // emptied, but kept
  std::vector<pybind11::object> params_and_states_;
  std::vector<Gradient> gradients_;
  std::vector<std::pair<pybind11::object, double>> step_counts_; // `state["step"]` and its next value
  std::vector<Scattered> scattered_;
  std::vector<std::pair<pybind11::object, pybind11::object>> handed_over_; // a dictionary in the state, a first state
};

} // namespace lerac_fast::engine
