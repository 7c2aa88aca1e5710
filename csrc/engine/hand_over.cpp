#include "engine/plan.h"
#include "engine/python_tensor.h"
#include "engine/state.h"

namespace lerac_fast::engine {

void hand_over(const Plan& plan) {
  // The kernels wrote through raw pointers: tell autograd.
  const auto bump = [](const at::Tensor& t) { t.unsafeGetTensorImpl()->bump_version(); };
  const auto bump_object = [&](PyObject* object) { bump(THPVariable_Unpack(object)); };
  for (const Source& source : plan.sources) {
    source.every_written(bump_object);
    if (source.count != kUncounted) set_step_count(THPVariable_Unpack(source.step), source.count);
  }
  for (const auto& object : plan.written) bump_object(object.ptr());
  for (const auto& gradient : plan.gradients) {
    if (gradient.written) bump(gradient.tensor);
  }
  for (const auto& [dict, first_state] : plan.first_states) {
    if (PyDict_Update(dict.ptr(), first_state.ptr()) != 0) throw pybind11::error_already_set();
  }
}

} // namespace lerac_fast::engine
