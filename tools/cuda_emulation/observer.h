// TEST ONLY. Who watches the emulated device: is told of every launch, and of every read and write of a kernel where
// the .cu files are compiled with -fsanitize=thread, whose callbacks are those of recorder.cpp.
#pragma once

#include <cstddef>

namespace emulation {

struct Launch {
  void* stream;
  unsigned blocks, threads;
  const void* arguments; // where the kernel finds them
  size_t argument_bytes;
  bool overlaps; // the one before
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual int current_device() const = 0;
  virtual void launch_begins(const Launch& launch) = 0;
  virtual void block_ends() = 0;
  virtual void launch_ends() = 0;
};
inline Observer* observer = nullptr; // or nobody

// Whether the code of a kernel runs, and not that of the emulation or the host.
inline thread_local bool in_kernel = false;

class Within {
 public:
  explicit Within(bool kernel) : before_(in_kernel) { in_kernel = kernel; }
  ~Within() { in_kernel = before_; }
  Within(const Within&) = delete;
  Within& operator=(const Within&) = delete;

 private:
  bool before_;
};

} // namespace emulation
