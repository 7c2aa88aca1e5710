// TEST ONLY. What the requests of a launch cost, as a profiler would count it: sectors, and bytes between the
// second-level cache and the memory.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "requests.h"

namespace emulation {

// Of the model: one of the 132 multiprocessors of an H100, with its share of 50 MB of cache.
inline constexpr uint64_t kCacheBytes = (50 << 20) / 132;
inline constexpr unsigned kThreadsInFlight = 2048;

// One for each width of access, 1 to 16 bytes, of reads and of writes.
struct Counts {
  int64_t requests, sectors, fewest; // fewest: sectors that the bytes of each request fill
};
inline constexpr int kWidths = 5;

// Read by Python (tools/gpu_code/emulated.py).
struct Traffic {
  int64_t blocks, threads;
  Counts reads[kWidths], writes[kWidths];
  int64_t bytes_read, bytes_written; // of the memory
  int64_t overlaps;                  // whether the launch does: overlap.h
};

// The requests of each block, by its index. The cache is empty before and written back after, as between the kernels of
// a profiler; what is in it for longest without use makes room. Blocks begin in the order of their indices, as many at
// once as the multiprocessor has threads for, and take turns, with one request each.
Traffic traffic_of(const std::map<unsigned, std::vector<Request>>& blocks, unsigned threads);

} // namespace emulation
