#include "engine/pending.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include "engine/backend.h"
#include "engine/python_tensor.h"
#include "engine/state.h"

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

void step_by_parent(std::vector<Pending::Unserved> unserved, StepFacts& step, const py::function& step_unserved) {
  py::list places;
  for (const auto& u : unserved) places.append(py::make_tuple(u.group, u.index, u.reason));
  step_unserved(places);
  for (auto& u : unserved) step.stepped_by_parent.emplace(u.param.ptr(), std::move(u.param));
}

// Makes the first state of a parameter, and a place for it. Whatever comes in between, such as Ctrl-C, leaves the place
// empty, which is as good as none.
FirstState first_state(const Pending::Stateless& stateless, PyObject* state) {
  const at::Tensor& param = THPVariable_Unpack(stateless.param.ptr());
  const ReadGroup& group = stateless.group;
  const bool counts_on_device = facts_of(group.rule).counts_steps &&
                                (stateless.step_on_device || (is_asynchronous(param.device().type()) &&
                                                              group.group.flag_or_false(GroupField::kFused)));
  py::dict first = new_state(group.rule, stateless.param, counts_on_device ? param.device() : at::Device(at::kCPU));
  if (!stateless.has_dict && PyObject_SetItem(state, stateless.param.ptr(), py::dict().ptr()) != 0)
    throw py::error_already_set();
  return {stateless.param, std::move(first)};
}

} // namespace

void do_pending(Pending pending, PyObject* state, StepFacts& step, KnownLayouts& known_layouts,
                const py::function& step_unserved) {
  if (!pending.layouts.empty()) {
    for (auto& comparison : pending.layouts) known_layouts.compare(std::move(comparison));
  } else if (!pending.devices.empty()) {
    for (const at::Device device : pending.devices) step.ask_whether_captures(device);
  } else if (pending.scaling || (!pending.unserved.empty() && !step.scaling.is_known())) {
    step.scaling.read();
  } else if (!pending.redistributions.empty()) {
    for (const auto& r : pending.redistributions)
      step.redistributed.insert_or_assign(r.param.ptr(),
                                          Redistributed{r.param, r.gradient, redistribute(r.gradient, r.spec)});
  } else if (!pending.unserved.empty()) {
    step_by_parent(std::move(pending.unserved), step, step_unserved);
  } else {
    const c10::InferenceMode no_inference(false); // states are to be updated outside of it, too
    const at::NoGradGuard no_grad;
    for (const auto& stateless : pending.stateless)
      step.first_states.insert_or_assign(stateless.param.ptr(), first_state(stateless, state));
    for (const auto& count : pending.host_counts)
      set_new_count(count.rule, count.dict.ptr(), count.value, count.device);
  }
}

} // namespace lerac_fast::engine
