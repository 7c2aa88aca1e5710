// One param group as the engine sees it.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>
#include <string>
#include <utility>

namespace lerac_fast::engine {

// The keys of param groups that the engine reads.
#define LERAC_FAST_GROUP_FIELDS(X)                                                                                     \
  X(kParams, "params")                                                                                                 \
  X(kLr, "lr")                                                                                                         \
  X(kWeightDecay, "weight_decay")                                                                                      \
  X(kMaximize, "maximize")                                                                                             \
  X(kDifferentiable, "differentiable")                                                                                 \
  X(kMomentum, "momentum")                                                                                             \
  X(kDampening, "dampening")                                                                                           \
  X(kNesterov, "nesterov")                                                                                             \
  X(kBetas, "betas")                                                                                                   \
  X(kEps, "eps")                                                                                                       \
  X(kAmsgrad, "amsgrad")                                                                                               \
  X(kDecoupledWeightDecay, "decoupled_weight_decay")                                                                   \
  X(kCapturable, "capturable")                                                                                         \
  X(kFused, "fused")

#define X(field, name) field,
enum class GroupField : size_t { LERAC_FAST_GROUP_FIELDS(X) };
#undef X

// A param group and its place. Errors name the group and the value. Reading a value may run Python code: `__float__` of
// a number, `__bool__` of a flag, the dispatch of a tensor subclass.
struct Group {
  PyObject* dict;
  Py_ssize_t index;
  mutable bool is_fixed = true; // what was read so far stays what it is for as long as the dictionary is not written

  // "param group 3 ('layer1.conv')".
  std::string describe() const;
  // The value of a field, borrowed; KeyError where the group lacks it.
  PyObject* at(GroupField field) const;
  // A number: a float, an int, or a tensor of one element; TypeError or ValueError otherwise.
  double number(GroupField field) const;
  double number(GroupField field, PyObject* value) const; // whose value is at hand
  // A number that is at least zero; ValueError otherwise, for NaN, too.
  double non_negative(GroupField field) const;
  // `value`, which was read of a field, if it is one.
  double non_negative(GroupField field, double value) const;
  bool flag(GroupField field) const;
  // A flag of torch's that not every optimizer has.
  bool flag_or_false(GroupField field) const;
  // The pair of Adam's decay rates, each in [0, 1).
  std::pair<double, double> betas() const;
};

} // namespace lerac_fast::engine
