#include "engine/state_index.h"

#include <algorithm>
#include <numeric>
#include <unordered_set>

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
  by_param_.resize(size);
  std::iota(by_param_.begin(), by_param_.end(), 0U);
  std::sort(by_param_.begin(), by_param_.end(), [this](uint32_t a, uint32_t b) { return items_[a] < items_[b]; });
  ++generation_;
}

PyObject* StateIndex::find(PyObject* param) const {
  const auto found = std::lower_bound(by_param_.begin(), by_param_.end(), param,
                                      [this](uint32_t item, PyObject* p) { return items_[item].first < p; });
  return found == by_param_.end() || items_[*found].first != param ? nullptr : items_[*found].second;
}

void KnownParameters::begin(PyObject* state, size_t params) {
  index_.refresh(state);
  known_.reserve(params);
  walked_ = 0;
}

PyObject* KnownParameters::next(PyObject* param) {
  if (walked_ == known_.size()) known_.emplace_back();
  auto& [known, dict] = known_[walked_++];
  if (known == param && generation_ == index_.generation()) return dict;
  if (known != param) none_twice_ = false;
  known = param;
  return dict = index_.find(param);
}

void KnownParameters::end() {
  known_.resize(walked_);
  generation_ = index_.generation();
  if (none_twice_) return;
  std::unordered_set<PyObject*> seen;
  for (const auto& [param, dict] : known_) {
    if (seen.insert(param).second) continue;
    throw pybind11::value_error("a parameter of shape " +
                                std::string(pybind11::str(pybind11::handle(param).attr("shape"))) +
                                " appears more than once in the param groups");
  }
  none_twice_ = true;
}

} // namespace lerac_fast::engine
