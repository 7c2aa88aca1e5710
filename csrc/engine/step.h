// One optimizer step: reads and checks everything first, then changes things.
#pragma once

#include <pybind11/pybind11.h>
#include <utility>
#include <vector>

#include "engine/footprint.h"
#include "engine/hyperparameters.h"
#include "engine/parameter.h"
#include "engine/scaling.h"
#include "engine/state_index.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// Steps one optimizer. What it keeps between steps is only memory and an index that every step checks against the live
// objects, so parameters, gradients, states and groups may be replaced at any time.
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

  // An operand whose elements do not lie in the row's order: it is updated through a dense copy.
  struct Scattered {
    at::Tensor original, dense;
    bool written;
  };
  // A parameter that has no state yet.
  struct Stateless {
    Place place;
    pybind11::object param, dict; // the state dictionary may be null
    bool step_on_device;
    pybind11::dict created;
  };
  // A step count that is to go to the device, where the kernels count.
  struct MovedCount {
    Place place;
    pybind11::object dict;
    double value;
    pybind11::object created;
  };
  struct Count {
    double value = 0;       // of this step, if the host knows it
    bool by_device = false; // counted by the kernels
    DeviceNumber on_device; // where they find it, if it is there yet
  };
  struct Gradient {
    at::Tensor tensor;
    bool written;
  };

  void collect(PyObject* param_groups);
  void collect_parameter(const Group& group, Py_ssize_t index, PyObject* object, const at::Tensor* rate,
                         math::Hyperparameters& h);
  void collect_scaling(at::Device device, math::Hyperparameters& h);
  Count read_count(const Parameter& parameter, const std::optional<State>& state, math::Hyperparameters& h);
  DeviceNumber read_rate(const Parameter& parameter, const at::Tensor* rate, math::Hyperparameters& h);
  void check_capture(const Parameter& parameter, Rule rule, const std::optional<State>& state);
  bool is_capturing(at::Device device);
  PyObject* state_dict_of(PyObject* param);
  Footprint& next_footprint();
  void check_no_parameter_twice();
  void check_no_memory_shared();
  Place append_row(at::Device device, Rule rule, Elements elements, int64_t numel, const math::Hyperparameters& h,
                   DeviceNumber rate);
  void set_operand(Place place, int operand, const at::Tensor& tensor, const at::Tensor& param, bool written = true);
  Row& row(Place place) { return tables_[place.table].rows[place.row]; }
  void*& pointer(Place place, int operand);
  void create_states();
  void create_counts();
  void hand_over(PyObject* state);
  at::Tensor count_on_device(Place place, double value);
  void run();
  void release();

  Optimizer optimizer_;
  StateIndex state_index_;
  BiasCorrections bias_corrections_;
  // Every parameter of the last walk and its state dictionary: spares the look-up where neither has moved.
  std::vector<std::pair<PyObject*, PyObject*>> walk_;
  std::vector<Footprint> footprints_; // of the same parameters
  size_t walked_ = 0;
  uint64_t walk_generation_ = 0;            // of the state index that the walk's dictionaries are from
  bool no_parameter_twice_ = true;          // checked for the walk as it stands
  std::vector<const void*> checked_memory_; // parameters' data that were found not to overlap

  bool running_ = false;

  // Of the step under way. Operands are held so that they stay alive while the GIL is released: parameters and states
  // by their Python objects, as taking another C++ reference to a tensor that Python owns is slow.
  Scaling scaling_;
  std::vector<TensorTable> tables_;
  std::vector<pybind11::object> params_and_states_;
  std::vector<Gradient> gradients_;
  std::vector<at::Tensor> rates_;                                // read by kernels
  std::vector<std::pair<pybind11::object, double>> step_counts_; // `state["step"]` and its next value
  std::vector<Scattered> scattered_;
  std::vector<Stateless> stateless_;
  std::vector<MovedCount> moved_counts_;
  std::vector<std::pair<at::Device, bool>> capturing_;
  bool rate_read_ = false; // the group's lr is among its hyperparameters
  bool overflown_ = false; // as far as the host has looked
  pybind11::list unserved_;
};

} // namespace lerac_fast::engine
