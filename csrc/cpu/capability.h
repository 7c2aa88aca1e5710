// Which of the compiled instruction sets this process uses.
#pragma once

#include <string>
#include <vector>

namespace lerac_fast::cpu {

enum class Capability { kBaseline, kAvx2, kAvx512 };

const char* name(Capability capability);

// What this build compiled and this processor runs, from the plainest to the widest.
std::vector<Capability> available_capabilities();

// The widest available, or the one that the environment variable LERAC_FAST_CPU_CAPABILITY names (baseline, avx2,
// avx512). Throws std::invalid_argument where that one is unknown or not available.
Capability capability();

} // namespace lerac_fast::cpu
