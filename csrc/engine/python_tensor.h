// Tensors as Python objects.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/autograd/python_variable.h>

namespace lerac_fast::engine {

// By its type and not by its `__class__`, which may be a property and lie: THPVariable_Check would run it.
inline bool is_tensor(PyObject* object) {
  return THPVariable_CheckExact(object) ||
         PyType_IsSubtype(Py_TYPE(object), reinterpret_cast<PyTypeObject*>(THPVariableClass));
}

inline pybind11::object to_python(const at::Tensor& tensor) {
  return pybind11::reinterpret_steal<pybind11::object>(THPVariable_Wrap(tensor));
}

// The object that stands for a tensor in Python already, or nullptr. Borrowed.
inline PyObject* python_of(const at::Tensor& tensor) {
  return [](const auto& slot) -> PyObject* {
    if constexpr (requires { slot.load_pyobj(); })
      return slot.load_pyobj();
    else // torch 2.9
      return slot.check_pyobj().value_or(nullptr);
  }(*tensor.unsafeGetTensorImpl()->pyobj_slot());
}

} // namespace lerac_fast::engine
