#include "engine/plan.h"
#include "engine/python_tensor.h"
#include "engine/state.h"

namespace lerac_fast::engine {

void hand_over(const Plan& plan) {
  // The kernels wrote through raw pointers: tell autograd.
  const auto bump = [](const at::Tensor& t) { t.unsafeGetTensorImpl()->bump_version(); };
  for (const auto& object : plan.written) bump(THPVariable_Unpack(object.ptr()));
  for (const auto& gradient : plan.gradients) {
    if (gradient.written) bump(gradient.tensor);
  }
  for (const auto& [object, value] : plan.step_counts) {
    const at::Tensor& count = THPVariable_Unpack(object.ptr());
    set_step_count(count, value);
    bump(count);
  }
  for (const auto& [dict, first_state] : plan.first_states) {
    if (PyDict_Update(dict.ptr(), first_state.ptr()) != 0) throw pybind11::error_already_set();
  }
}

} // namespace lerac_fast::engine
