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

// The table of kernels for the instruction set in use, of those that the build compiled.
template <typename Kernels> const Kernels& choose(const Kernels& baseline, const Kernels& avx2, const Kernels& avx512) {
  switch (capability()) {
  case Capability::kAvx512:
    return avx512;
  case Capability::kAvx2:
    return avx2;
  default:
    return baseline;
  }
}
#ifdef LERAC_FAST_X86_KERNELS
#define LERAC_FAST_CHOOSE(kernels) choose(kernels##_baseline, kernels##_avx2, kernels##_avx512)
#else
#define LERAC_FAST_CHOOSE(kernels) kernels##_baseline
#endif

} // namespace lerac_fast::cpu
