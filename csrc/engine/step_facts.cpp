#include "engine/step_facts.h"

#include "engine/backend.h"

namespace lerac_fast::engine {

PyObject* StepFacts::first_state_of(PyObject* param) const {
  const auto found = first_states.find(param);
  return found == first_states.end() ? nullptr : found->second.dict.ptr();
}

PyObject* StepFacts::redistributed_of(PyObject* param, PyObject* original) const {
  const auto found = redistributed.find(param);
  if (found == redistributed.end() || found->second.original.ptr() != original) return nullptr;
  return found->second.gradient.ptr();
}

std::optional<bool> StepFacts::is_capturing(at::Device device) const {
  for (const auto& [known, is_capturing] : capturing) {
    if (known == device) return is_capturing;
  }
  return std::nullopt;
}

void StepFacts::ask_whether_captures(at::Device device) {
  if (is_capturing(device)) return;
  const bool answer = is_asynchronous(device.type()) && find_backend(device.type())->is_capturing(device);
  capturing.emplace_back(device, answer);
}

} // namespace lerac_fast::engine
