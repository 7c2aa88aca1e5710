// Whether something is to see every operation on tensors.
#pragma once

namespace lerac_fast::engine {

// What follows torch's operations here, so that writing through raw pointers would be hidden from it: a mode, a
// function transform, a tracer; nullptr where there is none. `torch.device` as a context and torch.set_default_device
// are function modes, too, but follow nothing that a step does.
const char* why_traced();

} // namespace lerac_fast::engine
