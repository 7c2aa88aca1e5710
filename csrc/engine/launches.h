// Counts kernel launches on devices that have them, so that tests can say how many a step takes.
#pragma once

#include <atomic>
#include <cstdint>

namespace lerac_fast::engine {

inline std::atomic<int64_t> launches{0}; // of this process so far

} // namespace lerac_fast::engine
