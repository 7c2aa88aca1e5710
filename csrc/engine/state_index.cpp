#include "engine/state_index.h"

namespace lerac_fast::engine {

void StateIndex::refresh(PyObject* state) {
  if (!PyDict_Check(state)) throw pybind11::type_error("optimizer.state must be a dict");
  const auto size = static_cast<size_t>(PyDict_Size(state));
  bool changed = size != items_.size();
  items_.resize(size);
  PyObject *param, *dict;
  Py_ssize_t position = 0;
  for (size_t i = 0; i < size && PyDict_Next(state, &position, &param, &dict); ++i) {
    const std::pair<PyObject*, PyObject*> item(param, dict);
    if (items_[i] == item) continue;
    items_[i] = item;
    changed = true;
  }
  if (!changed) return;
  by_param_.clear();
  by_param_.insert(items_.begin(), items_.end());
  ++generation_;
}

PyObject* StateIndex::find(PyObject* param) const {
  const auto found = by_param_.find(param);
  return found == by_param_.end() ? nullptr : found->second;
}

} // namespace lerac_fast::engine
