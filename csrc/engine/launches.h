// Kernel launches, on devices that have them: what they need; their number, so that tests can say how many a step
// takes; and whether they may overlap, so that tests and benchmarks can compare.
#pragma once

#include <atomic>
#include <cstdint>

namespace lerac_fast::engine {

// Of CUDA, as it counts them: 12010 is 12.1.
struct DriverVersions {
  int present = 0, needed = 0; // present: 0 where there is no driver, and nothing to be launched
};

inline std::atomic<int64_t> launches{0};             // of this process so far
inline std::atomic<int64_t> overlapping_launches{0}; // those of them that may begin while the one before still runs
inline std::atomic<bool> may_overlap{true};

} // namespace lerac_fast::engine
