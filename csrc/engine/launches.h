// Counts kernel launches on devices that have them, so that tests can say how many a step takes; and says whether
// launches may overlap, so that tests and benchmarks can compare.
#pragma once

#include <atomic>
#include <cstdint>

namespace lerac_fast::engine {

inline std::atomic<int64_t> launches{0};             // of this process so far
inline std::atomic<int64_t> overlapping_launches{0}; // those of them that may begin while the one before still runs
inline std::atomic<bool> may_overlap{true};

} // namespace lerac_fast::engine
