// TEST ONLY. What the warps of a block ask of the memory, from what each thread reads and writes.
#pragma once

#include <cstdint>
#include <vector>

namespace emulation {

inline constexpr uint64_t kSectorBytes = 32; // what GPUs of NVIDIA move at least

struct Access {
  const void* instruction;
  uint64_t address;
  uint16_t thread;
  uint8_t bytes; // a power of two, up to 16
  bool writes;
};

// One instruction of a warp.
struct Request {
  uint8_t bytes; // of each lane
  bool writes;
  uint64_t fewest;               // sectors that as many bytes fill
  std::vector<uint64_t> sectors; // that it touches, in ascending order
};

// The k-th time that the threads of a warp execute an instruction is one request. They are in the order in which warps
// that keep step with each other make them. `accesses` are, for each thread, in the order of its program.
std::vector<Request> requests_of_block(const std::vector<Access>& accesses);

} // namespace emulation
