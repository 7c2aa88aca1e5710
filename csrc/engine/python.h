// The engine's view of Python objects: interned keys, numbers, and errors that say where.
#pragma once

#include <pybind11/pybind11.h>
#include <string>

namespace lerac_fast::engine {

// A dictionary key, interned once: lookups with it compare pointers.
class Key {
 public:
  explicit Key(const char* text) : text_(text), object_(PyUnicode_InternFromString(text)) {
    if (object_ == nullptr) throw pybind11::error_already_set();
  }
  const char* text() const { return text_; }

  // The value under this key, borrowed, or nullptr.
  PyObject* find(PyObject* dict) const {
    PyObject* value = PyDict_GetItemWithError(dict, object_);
    if (value == nullptr && PyErr_Occurred()) throw pybind11::error_already_set();
    return value;
  }

  void set(PyObject* dict, PyObject* value) const {
    if (PyDict_SetItem(dict, object_, value) != 0) throw pybind11::error_already_set();
  }

 private:
  const char* text_;
  PyObject* object_; // never freed: keys live as long as the process
};

// One param group and its place, for messages: "param group 3 ('layer1.conv')".
struct Group {
  PyObject* dict;
  Py_ssize_t index;

  std::string describe() const;
  // The value under `key`, borrowed; KeyError where the group lacks it.
  PyObject* at(const Key& key) const;
  // A number: a float, an int, or a tensor of one element.
  double number(const Key& key) const;
  bool flag(const Key& key) const;
};

// A number from a Python float, int, or one-element tensor; TypeError or ValueError naming `what` otherwise.
double to_number(PyObject* object, const std::string& what);

// A number as Python prints it, for messages.
std::string show(double value);

} // namespace lerac_fast::engine
