// TEST ONLY. Launches that overlap, at their worst: nothing of the first is done when the second begins, and all of it
// where a thread of the second first waits.
//
// Kernels run at once, in the order of the host. So the first one has run when the second begins; then all that it
// wrote is taken back, and where the second waits, the first runs once more. Bytes that it had not read before become
// 0xff, which is no number in any format. The callbacks of -fsanitize=thread tell what it wrote; without them nothing
// overlaps.
#pragma once

#include <functional>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "emulated_block.h"

namespace emulation {

// Whether the kernel that runs has let the next one begin, and `Overlap` is to follow what it does.
inline thread_local bool is_followed = false;

class Overlap {
 public:
  // ---- launches, by the host ----

  void launch_begins(bool overlaps) {
    overlaps_ = is_to_repeat_ = overlaps && previous_.again;
    if (is_to_repeat_) take_back();
    current_ = {};
    is_followed = has_waited_ = false;
  }

  // `kernel` is what was launched, as `run` takes it.
  template <typename Kernel> void launch_ends(unsigned blocks, unsigned threads, const Kernel& kernel) {
    if (is_to_repeat_) repeat();
    if (is_followed && !(current_.written.empty() && current_.read.empty()))
      current_.again = [=] { run(blocks, threads, [&] { kernel(); }); };
    previous_ = std::move(current_);
    is_followed = overlaps_ = false;
  }

  // ---- in kernels; not inlined, as what these write is not the kernel's ----

  __attribute__((noinline, no_sanitize("thread"))) void let_next_begin() {
    if (!repeats_) is_followed = true;
  }

  __attribute__((noinline, no_sanitize("thread"))) void wait() {
    const Within emulation(false);
    if (repeats_) return;
    has_waited_ = true;
    if (is_to_repeat_) repeat();
  }

  // ---- what kernels do with memory that is not a thread's own, by the recorder ----

  void follow(unsigned char* address, size_t bytes, bool writes) {
    for (unsigned char* byte = address; byte < address + bytes; ++byte) {
      if (writes)
        current_.written.try_emplace(byte, *byte);
      else if (!current_.written.contains(byte))
        current_.read.insert(byte);
    }
  }

  // Whether a launch runs for the second time, of which the recorder knows already.
  bool repeats() const { return repeats_; }

  // Whether the block should have waited before it used this.
  bool is_too_early(unsigned char* address, bool writes) const {
    return overlaps_ && !has_waited_ &&
           (previous_.written.contains(address) || (writes && previous_.read.contains(address)));
  }

  // Whether the block should have waited and has not. The next one begins.
  bool lacks_wait() { return overlaps_ && !std::exchange(has_waited_, false); }

 private:
  struct Done {
    std::function<void()> again;                               // if it let the next one begin
    std::unordered_map<unsigned char*, unsigned char> written; // to each byte what it was
    std::unordered_set<unsigned char*> read;                   // before it was written
  };

  void take_back() {
    for (const auto& [byte, before] : previous_.written) *byte = previous_.read.contains(byte) ? before : 0xff;
  }

  // In the middle of a thread of another launch, or at its end.
  void repeat() {
    is_to_repeat_ = false;
    const auto numbers = std::tuple(threadIdx, blockIdx, blockDim, gridDim);
    Block* const interrupted = std::exchange(block, nullptr);
    Observer* const observing = std::exchange(observer, nullptr);
    const bool was_followed = std::exchange(is_followed, false);
    repeats_ = true;
    previous_.again();
    repeats_ = false;
    is_followed = was_followed;
    observer = observing;
    block = interrupted;
    std::tie(threadIdx, blockIdx, blockDim, gridDim) = numbers;
  }

  Done previous_, current_;
  bool overlaps_ = false, is_to_repeat_ = false, repeats_ = false;
  bool has_waited_ = false; // the block
};
inline thread_local Overlap overlap; // of the launches of a thread of the host

} // namespace emulation
