#include "engine/group.h"

#include "engine/keys.h"
#include "engine/python_tensor.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

#define X(field, name) name,
constexpr std::array kNames{LERAC_FAST_GROUP_FIELDS(X)};
#undef X

using GroupKeys = Keys<GroupField, kNames.size()>;
GroupKeys& keys() {
  static GroupKeys keys(kNames);
  return keys;
}

const char* name_of(GroupField field) { return kNames[static_cast<size_t>(field)]; }

bool is_true(const Group& group, PyObject* value) {
  if (PyBool_Check(value)) return value == Py_True;
  group.is_fixed &= value == Py_None || PyLong_CheckExact(value);
  const auto owned = py::reinterpret_borrow<py::object>(value); // `__bool__` may take it out of the group
  const int truth = PyObject_IsTrue(value);
  if (truth < 0) throw py::error_already_set();
  return truth != 0;
}

std::string show(double value) { return std::string(py::repr(py::float_(value))); }

// Texts of messages are costly beside all else here, hundreds of groups at every step: they are made where needed.
double to_number(const Group& group, GroupField field, PyObject* object) {
  if (PyFloat_Check(object)) return PyFloat_AS_DOUBLE(object);
  group.is_fixed &= PyLong_CheckExact(object) != 0;
  const auto owned = py::reinterpret_borrow<py::object>(object); // `__float__` may take it out of the group
  if (!PyLong_CheckExact(object) && is_tensor(object)) {
    const at::Tensor& tensor = THPVariable_Unpack(object);
    if (tensor.numel() == 1 && !tensor.is_complex()) return tensor.item().toDouble();
    throw py::value_error(group.describe() + ": " + name_of(field) + " must be a real number or a tensor of one, got " +
                          std::string(py::repr(object)));
  }
  // torch's defaults have `weight_decay=0`; also bool and numpy scalars.
  const double value = PyLong_CheckExact(object) ? PyLong_AsDouble(object) : PyFloat_AsDouble(object);
  if (value == -1.0 && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_Exception)) throw py::error_already_set(); // Ctrl-C
    PyErr_Clear();
    throw py::type_error(group.describe() + ": " + name_of(field) + " must be a number, got " +
                         std::string(py::repr(object)));
  }
  return value;
}

} // namespace

std::string Group::describe() const {
  std::string text = "param group " + std::to_string(index);
  PyObject* name = PyDict_GetItemString(dict, "name");
  if (name != nullptr && PyUnicode_Check(name)) text += " ('" + std::string(py::str(name)) + "')";
  return text;
}

PyObject* Group::at(GroupField field) const {
  PyObject* value = keys().find(dict, field);
  if (value == nullptr) throw py::key_error(describe() + " has no '" + name_of(field) + "'");
  return value;
}

double Group::number(GroupField field) const { return number(field, at(field)); }

double Group::number(GroupField field, PyObject* value) const {
  if (PyFloat_CheckExact(value)) return PyFloat_AS_DOUBLE(value);
  return to_number(*this, field, value);
}

double Group::non_negative(GroupField field) const { return non_negative(field, number(field)); }

double Group::non_negative(GroupField field, double value) const {
  if (value >= 0) return value;
  throw py::value_error(describe() + ": " + name_of(field) + " must be at least 0, got " + show(value));
}

bool Group::flag(GroupField field) const { return is_true(*this, at(field)); }

bool Group::flag_or_false(GroupField field) const {
  PyObject* const value = keys().find(dict, field);
  return value != nullptr && is_true(*this, value);
}

std::pair<double, double> Group::betas() const {
  PyObject* const value = at(GroupField::kBetas);
  is_fixed &= PyTuple_CheckExact(value) != 0;
  const auto owned = py::reinterpret_borrow<py::object>(value);
  const auto pair = py::reinterpret_steal<py::object>(PySequence_Fast(value, "")); // itself, if a tuple or a list
  if (!pair || PySequence_Fast_GET_SIZE(pair.ptr()) != 2) {
    PyErr_Clear();
    throw py::type_error(describe() + ": betas must be a pair of numbers, got " + std::string(py::repr(value)));
  }
  const auto item = [&](Py_ssize_t i) {
    return py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(pair.ptr(), i));
  };
  const auto beta = [&](const py::object& object) {
    const double value = to_number(*this, GroupField::kBetas, object.ptr());
    if (value >= 0 && value < 1) return value;
    throw py::value_error(describe() + ": betas must lie in [0, 1), got " + show(value));
  };
  const py::object first = item(0), second = item(1); // both before either runs Python code that may change a list
  const double beta1 = beta(first);
  return {beta1, beta(second)};
}

} // namespace lerac_fast::engine
