#include "cpu/capability.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace lerac_fast::cpu {

const char* name(Capability capability) {
  switch (capability) {
  case Capability::kAvx512:
    return "avx512";
  case Capability::kAvx2:
    return "avx2";
  default:
    return "baseline";
  }
}

std::vector<Capability> available_capabilities() {
  std::vector<Capability> available{Capability::kBaseline};
#ifdef LERAC_FAST_X86_KERNELS
  if (__builtin_cpu_supports("x86-64-v3")) available.push_back(Capability::kAvx2);
  if (__builtin_cpu_supports("x86-64-v4")) available.push_back(Capability::kAvx512);
#endif
  return available;
}

Capability capability() {
  static const Capability chosen = [] {
    const auto available = available_capabilities();
    const char* asked = std::getenv("LERAC_FAST_CPU_CAPABILITY");
    if (asked == nullptr) return available.back();
    const auto found =
        std::find_if(available.begin(), available.end(), [&](Capability c) { return std::string(asked) == name(c); });
    if (found != available.end()) return *found;
    std::string names;
    for (Capability c : available) names += std::string(names.empty() ? "" : ", ") + name(c);
    throw std::invalid_argument("LERAC_FAST_CPU_CAPABILITY is '" + std::string(asked) + "'; available here: " + names);
  }();
  return chosen;
}

} // namespace lerac_fast::cpu
