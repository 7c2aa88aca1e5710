// Dictionary keys, interned once, so that look-ups compare addresses.
#pragma once

#include <array>
#include <pybind11/pybind11.h>

namespace lerac_fast::engine {

// The keys that an enumeration names. Never freed: they live as long as the process.
template <typename Field, size_t N> class Keys {
 public:
  explicit Keys(const std::array<const char*, N>& names) {
    for (size_t i = 0; i < N; ++i) {
      objects_[i] = PyUnicode_InternFromString(names[i]);
      if (objects_[i] == nullptr) throw pybind11::error_already_set();
    }
  }

  // The value under a key, borrowed, or nullptr.
  PyObject* find(PyObject* dict, Field field) const {
    PyObject* value = PyDict_GetItemWithError(dict, objects_[static_cast<size_t>(field)]);
    if (value == nullptr && PyErr_Occurred()) throw pybind11::error_already_set();
    return value;
  }

  void set(PyObject* dict, Field field, PyObject* value) const {
    if (PyDict_SetItem(dict, objects_[static_cast<size_t>(field)], value) != 0) throw pybind11::error_already_set();
  }

 private:
  std::array<PyObject*, N> objects_;
};

} // namespace lerac_fast::engine
