// Dictionary keys, interned, and where in the dictionaries they stood last time.
#pragma once

#include <array>
#include <pybind11/pybind11.h>

namespace lerac_fast::engine {

// The keys that an enumeration names. Never freed: they live as long as the process.
//
// Hundreds of param groups, and of states, hold the same keys in the same order. So each key remembers the offset of
// its last find and looks there first: that is twice as fast as a look-up, and an offset that is wrong costs a look-up
// and nothing else, as the key found there is compared.
template <typename Field, size_t N> class Keys {
 public:
  explicit Keys(const std::array<const char*, N>& names) {
    for (size_t i = 0; i < N; ++i) {
      objects_[i] = PyUnicode_InternFromString(names[i]);
      if (objects_[i] == nullptr) throw pybind11::error_already_set();
    }
  }

  // The value under a key, borrowed, or nullptr.
  PyObject* find(PyObject* dict, Field field) {
    const auto i = static_cast<size_t>(field);
    PyObject *key, *value;
    Py_ssize_t offset = offsets_[i];
    if (PyDict_Next(dict, &offset, &key, &value) && key == objects_[i]) return value;
    value = PyDict_GetItemWithError(dict, objects_[i]);
    if (value == nullptr && PyErr_Occurred()) throw pybind11::error_already_set();
    if (value != nullptr) remember_offset(dict, i);
    return value;
  }

  void set(PyObject* dict, Field field, PyObject* value) const {
    if (PyDict_SetItem(dict, objects_[static_cast<size_t>(field)], value) != 0) throw pybind11::error_already_set();
  }

 private:
  void remember_offset(PyObject* dict, size_t i) {
    PyObject *key, *value;
    Py_ssize_t offset = 0;
    do {
      offsets_[i] = offset;
    } while (PyDict_Next(dict, &offset, &key, &value) && key != objects_[i]);
  }

  std::array<PyObject*, N> objects_;
  std::array<Py_ssize_t, N> offsets_{};
};

} // namespace lerac_fast::engine
