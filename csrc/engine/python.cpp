#include "engine/python.h"

#include <torch/csrc/autograd/python_variable.h>

namespace lerac_fast::engine {

namespace py = pybind11;

double to_number(PyObject* object, const std::string& what) {
  if (PyFloat_Check(object)) return PyFloat_AS_DOUBLE(object);
  if (THPVariable_Check(object)) {
    const at::Tensor& tensor = THPVariable_Unpack(object);
    if (tensor.numel() != 1 || tensor.is_complex()) {
      throw py::value_error(what + " must be a real number or a tensor of one element, got a tensor of " +
                            std::to_string(tensor.numel()) + " elements");
    }
    return tensor.item().toDouble();
  }
  const double value = PyFloat_AsDouble(object); // int, bool, numpy scalars
  if (value == -1.0 && PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error(what + " must be a number, got " + std::string(py::repr(object)));
  }
  return value;
}

std::string show(double value) { return std::string(py::repr(py::float_(value))); }

std::string Group::describe() const {
  static const Key name("name");
  std::string text = "param group " + std::to_string(index);
  PyObject* given = name.find(dict);
  if (given != nullptr && PyUnicode_Check(given)) text += " ('" + std::string(py::str(given)) + "')";
  return text;
}

PyObject* Group::at(const Key& key) const {
  PyObject* value = key.find(dict);
  if (value == nullptr) throw py::key_error(describe() + " has no '" + key.text() + "'");
  return value;
}

double Group::number(const Key& key) const {
  PyObject* value = at(key);
  if (PyFloat_CheckExact(value)) return PyFloat_AS_DOUBLE(value);
  return to_number(value, describe() + ": " + key.text());
}

bool Group::flag(const Key& key) const {
  const int truth = PyObject_IsTrue(at(key));
  if (truth < 0) throw py::error_already_set();
  return truth != 0;
}

} // namespace lerac_fast::engine
