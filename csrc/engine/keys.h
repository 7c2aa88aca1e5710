// Dictionary keys, interned, and where in the dictionaries they stood last time.
#pragma once

#include <array>
#include <pybind11/pybind11.h>

namespace lerac_fast::engine {

// The keys that an enumeration names (nullptr: one that is never asked for). Never freed: they live as long as the
// process.
//
// Hundreds of param groups, and of states, hold the same keys in the same order. So each key remembers the offset of
// its last find and looks there first: that is cheaper than a look-up, and an offset that is wrong costs a search
// and nothing else, as the key found there is compared. It is compared by address, with the interned key and with the
// one last found: keys that come from a file are not interned. Nothing here runs Python code, as `__eq__` of a key
// would.
template <typename Field, size_t N> class Keys {
 public:
  explicit Keys(const std::array<const char*, N>& names) {
    for (size_t i = 0; i < N; ++i) {
      interned_[i] = PyUnicode_InternFromString(names[i] != nullptr ? names[i] : "");
      if (interned_[i] == nullptr) throw pybind11::error_already_set();
    }
    found_ = interned_;
    for (PyObject* key : found_) Py_INCREF(key);
  }

  // The value under a key, borrowed, or nullptr.
  PyObject* find(PyObject* dict, Field field) {
    const auto i = static_cast<size_t>(field);
    PyObject *key, *value;
    Py_ssize_t offset = offsets_[i];
    if (PyDict_Next(dict, &offset, &key, &value) && (key == found_[i] || key == interned_[i])) return value;
    return search(dict, i);
  }

  void set(PyObject* dict, Field field, PyObject* value) const {
    if (PyDict_SetItem(dict, interned_[static_cast<size_t>(field)], value) != 0) throw pybind11::error_already_set();
  }

 private:
  PyObject* search(PyObject* dict, size_t i) {
    PyObject *key, *value;
    Py_ssize_t next = 0, offset = 0;
    while (PyDict_Next(dict, &next, &key, &value)) {
      if (is_text_of(key, interned_[i])) {
        offsets_[i] = offset;
        Py_INCREF(key); // owned, so that its address is not given to another key
        Py_SETREF(found_[i], key);
        return value;
      }
      offset = next;
    }
    return nullptr;
  }

  static bool is_text_of(PyObject* key, PyObject* name) {
    return key == name || (PyUnicode_Check(key) && PyUnicode_GET_LENGTH(key) == PyUnicode_GET_LENGTH(name) &&
                           PyUnicode_Compare(key, name) == 0);
  }

  std::array<PyObject*, N> interned_, found_;
  std::array<Py_ssize_t, N> offsets_{};
};

} // namespace lerac_fast::engine
