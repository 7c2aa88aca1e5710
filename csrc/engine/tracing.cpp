#include "engine/tracing.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/PyInterpreter.h>

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

bool is_device_context(PyObject* mode) {
  // Never freed: it outlives the interpreter.
  static const py::handle type = py::object(py::module_::import("torch.utils._device").attr("DeviceContext")).release();
  return py::isinstance(mode, type);
}

bool is_followed_by_function_mode() {
  if (!at::impl::torch_function_mode_enabled()) return false;
  for (int64_t i = 0; i < at::impl::PythonTorchFunctionTLS::stack_len(); ++i) {
    if (!is_device_context(at::impl::PythonTorchFunctionTLS::get_stack_at(i)->ptr(getPyInterpreter()))) return true;
  }
  return false;
}

} // namespace

const char* why_traced() {
  using c10::DispatchKey;
  constexpr c10::DispatchKeySet transforms{DispatchKey::FuncTorchDynamicLayerFrontMode,
                                           DispatchKey::FuncTorchDynamicLayerBackMode, DispatchKey::FuncTorchVmapMode,
                                           DispatchKey::Functionalize};
  if (c10::impl::dispatch_mode_enabled()) return "under a TorchDispatchMode, which is to see every operation";
  if (is_followed_by_function_mode()) return "under a TorchFunctionMode, which is to see every operation";
  const auto included = c10::impl::tls_local_dispatch_key_set().included_;
  if (included.has_any(transforms)) return "inside a function transform";
  if (included.has(DispatchKey::Tracer)) return "while torch.jit traces";
  return nullptr;
}

} // namespace lerac_fast::engine
