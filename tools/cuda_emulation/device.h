// TEST ONLY. What the emulated runtime knows: which memory is of which device, which stream works on it, and what has
// waited for what. Everything runs at once, in the order of the host; what would be wrong on a GPU, where it does not,
// is a fault.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace emulation {

// A stream is its device * kStreams and its number there; 0 is the default one, which waits for no other.
using Stream = int;
inline constexpr Stream kStreams = 256;
inline constexpr Stream kHost = -1; // waits like a stream

class Device {
 public:
  // ---- the current device, that of torch's tensors, which are the CPU's, and the current stream of each ----
  int current = 0, of_tensors = 0;
  Stream current_stream_of(int device) const;
  void select(Stream stream); // on its device, which does not become the current one

  // ---- memory of the device of torch's tensors, and of its current stream ----
  void allocate(const void* address, size_t bytes);
  void release(const void* address);
  bool has(const void* address) const;

  // ---- work ----
  void launch(Stream stream);              // begins a kernel
  void work_here();                        // begins torch's own, on the current stream of its tensors
  bool use(uint64_t address, bool writes); // by the work that has begun; false: no memory of a device
  void use_host_memory(const char* how);   // by a kernel
  void fault_of_overlap(const char* what); // of a kernel: overlap.h

  // ---- order ----
  void wait(Stream waiting, Stream working); // cudaStreamWaitEvent
  void synchronize();                        // the host waits for all streams
  int64_t synchronizations = 0;
  std::optional<Stream> capturing;

  std::vector<std::string> faults;

 private:
  struct Use {
    Stream stream;
    uint64_t time;
    bool writes;
  };
  struct Memory {
    uint64_t end;
    int device;
    Stream home;
    bool released;
    std::vector<Use> uses; // the last of each stream
  };

  void fault(const std::string& what);
  bool has_waited(Stream waiting, const Use& use) const;
  std::map<uint64_t, Memory>::iterator find(uint64_t address);

  std::map<int, Stream> current_streams_;
  std::map<uint64_t, Memory> memory_; // by its first address
  std::map<Stream, uint64_t> times_;  // of the last work of each stream
  std::map<std::pair<Stream, Stream>, uint64_t> waited_;
  Stream working_ = 0;
};

} // namespace emulation
