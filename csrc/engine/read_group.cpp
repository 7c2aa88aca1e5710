#include "engine/read_group.h"

#include "engine/dict_version.h"

namespace lerac_fast::engine {

namespace py = pybind11;

double ReadGroup::read_rate() {
  if (!rate_on_host) rate_on_host = group.non_negative(GroupField::kLr, rate.item().toDouble());
  return *rate_on_host;
}

std::vector<ReadGroup> read_groups(Optimizer optimizer, PyObject* param_groups) {
  if (!PyList_Check(param_groups)) throw py::type_error("optimizer.param_groups must be a list");
  std::vector<ReadGroup> groups;
  groups.reserve(static_cast<size_t>(PyList_GET_SIZE(param_groups)));
  for (Py_ssize_t g = 0; g < PyList_GET_SIZE(param_groups); ++g) {
    auto dict = py::reinterpret_borrow<py::object>(PyList_GET_ITEM(param_groups, g));
    if (!PyDict_Check(dict.ptr())) throw py::type_error("param group " + std::to_string(g) + " must be a dict");
    const Group group{dict.ptr(), g};
    auto params = py::reinterpret_borrow<py::object>(group.at(GroupField::kParams));
    if (!PyList_Check(params.ptr())) throw py::type_error(group.describe() + ": params must be a list of tensors");

    ReadGroup& read = groups.emplace_back();
    read.version = version_of(dict.ptr());
    read.group = group;
    read.dict = std::move(dict);
    read.params = std::move(params);
    read.numbers = read_numbers(optimizer, read.group, &read.rate);
    read.rule = rule_of(optimizer, read.numbers);
    read.capturable = facts_of(read.rule).counts_steps && read.group.flag_or_false(GroupField::kCapturable);
  }
  return groups;
}

} // namespace lerac_fast::engine
