// TEST ONLY. Runs the threads of a block as fibers that one thread of the CPU takes turns on. A fiber runs threads one
// after the other for as long as none of them waits, so that kernels without barriers cost a function call per thread.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#include "observer.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Of the thread that runs. Kernels are launched along x alone.
inline thread_local dim3 threadIdx(0, 0, 0), blockIdx(0, 0, 0), blockDim, gridDim;

namespace emulation {

inline constexpr unsigned kWarp = 32;
inline constexpr size_t kStackBytes = 256 << 10;

inline unsigned lane() { return threadIdx.x % kWarp; }

[[noreturn]] inline void fail(const char* what) {
  fprintf(stderr, "CUDA emulation: %s (thread %u of block %u)\n", what, threadIdx.x, blockIdx.x);
  abort();
}

// The numbers 0 .. count - 1 in another order, one for every `seed`; 0, which often works for the others, is seldom
// first.
class Order {
 public:
  Order(uint64_t count, uint64_t seed)
      : count_(count), step_((seed * 7919 + 2654435761) % count), first_((seed + count * 2 / 3) % count) {
    while (std::gcd(step_, count) != 1) ++step_; // ends: count + 1 would do
  }
  unsigned operator[](uint64_t i) const { return unsigned((first_ + i * step_) % count_); }

 private:
  uint64_t count_, step_, first_;
};

// A place to go on at: a fiber, or where they are started from.
struct Context {
  jmp_buf state;
  const void* stack = nullptr; // for the sanitizer
  size_t stack_bytes = 0;
};

struct Fiber : Context {
  unsigned thread = 0; // that it runs
  std::unique_ptr<char[]> memory{new char[kStackBytes]};
  ucontext_t entry;
};

// What the threads that reached a barrier wait for, and what they hand each other.
struct Meeting {
  unsigned members = 0, arrived = 0;
  std::vector<Fiber*> waiting;
  unsigned round = 0; // two rounds take turns with the slots: nobody is overtaken twice
  uint64_t slots[2][kWarp];
};

struct Block {
  Block(const std::function<void()>& kernel, unsigned index, unsigned threads)
      : kernel(kernel), threads(threads), order(threads, index), warps((threads + kWarp - 1) / kWarp) {
    all.members = threads;
    for (Meeting& warp : warps) warp.members = kWarp;
  }

  const std::function<void()>& kernel;
  unsigned threads, started = 0, ended = 0;
  Order order;
  Meeting all;
  std::vector<Meeting> warps;
  std::vector<Fiber*> ready; // the last comes first
  Fiber* current = nullptr;
  Context scheduler;
};
inline thread_local Block* block = nullptr;
inline thread_local std::vector<std::unique_ptr<Fiber>> idle;

// The sanitizer is told of every change of stacks, before and after.
inline void leave(void** fake_stack, const Context& to) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(fake_stack, to.stack, to.stack_bytes);
#else
  (void)fake_stack, (void)to;
#endif
}
inline void arrive(void* fake_stack, const Context& at) {
#ifdef __SANITIZE_ADDRESS__
  Context from;
  __sanitizer_finish_switch_fiber(fake_stack, &from.stack, &from.stack_bytes);
  if (&at != &block->scheduler) { // then from there
    block->scheduler.stack = from.stack;
    block->scheduler.stack_bytes = from.stack_bytes;
  }
#else
  (void)fake_stack, (void)at;
#endif
}

// setjmp and not swapcontext, which asks the kernel for the signal mask every time. Compile without _FORTIFY_SOURCE,
// which takes a jump to another stack for a mistake.
__attribute__((noinline)) inline void go(Context& from, Context& to) {
  void* fake_stack = nullptr;
  leave(&fake_stack, to);
  if (_setjmp(from.state) == 0) _longjmp(to.state, 1);
  arrive(fake_stack, from);
}

inline void wait_at(Meeting& meeting) {
  Fiber* fiber = block->current;
  meeting.waiting.push_back(fiber);
  if (++meeting.arrived == meeting.members) { // this one waits, too: others may come first
    block->ready.insert(block->ready.end(), meeting.waiting.begin(), meeting.waiting.end());
    meeting.waiting.clear();
    meeting.arrived = 0;
    ++meeting.round;
  }
  go(*fiber, block->scheduler);
}

inline void wait_for_block() {
  const Within emulation(false);
  wait_at(block->all);
}

// Hands `value` to the warp and returns that of the lane `from`.
template <typename T> T exchange(unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  const Within emulation(false);
  if (mask != 0xffffffff) fail("only whole warps may exchange values");
  if (block->threads % kWarp != 0) fail("the block has a warp that is not whole");
  Meeting& warp = block->warps[threadIdx.x / kWarp];
  auto& slots = warp.slots[warp.round % 2];
  memcpy(&slots[lane()], &value, sizeof(value));
  wait_at(warp);
  memcpy(&value, &slots[from], sizeof(value));
  return value;
}

// The life of a fiber: runs threads that have not started yet, until there are none.
inline void run_threads() {
  Fiber* self = block->current;
  arrive(nullptr, *self);
  while (true) {
    while (block->started < block->threads && block->ready.empty()) {
      threadIdx.x = self->thread = block->order[block->started++];
      block->kernel();
      ++block->ended;
    }
    idle.emplace_back(self);
    go(*self, block->scheduler); // until it is taken for the threads of this block or another
  }
}

inline void resume(Fiber* fiber) {
  block->current = fiber;
  threadIdx.x = fiber->thread;
  go(block->scheduler, *fiber);
}

__attribute__((noinline)) inline void start_fiber() {
  if (!idle.empty()) {
    Fiber* fiber = idle.back().release();
    idle.pop_back();
    return resume(fiber);
  }
  auto* fiber = new Fiber;
  fiber->stack = fiber->memory.get();
  fiber->stack_bytes = kStackBytes;
  getcontext(&fiber->entry);
  fiber->entry.uc_stack.ss_sp = fiber->memory.get();
  fiber->entry.uc_stack.ss_size = kStackBytes;
  fiber->entry.uc_link = nullptr;
  makecontext(&fiber->entry, run_threads, 0);
  block->current = fiber;
  void* fake_stack = nullptr;
  leave(&fake_stack, *fiber);
  if (_setjmp(block->scheduler.state) == 0) setcontext(&fiber->entry);
  arrive(fake_stack, block->scheduler);
}

// Calls `kernel` once for every thread of every block.
inline void run(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
  const Order order(blocks, blocks);
  blockDim.x = threads;
  gridDim.x = blocks;
  for (unsigned i = 0; i < blocks; ++i) {
    blockIdx.x = order[i];
    Block here(kernel, blockIdx.x, threads);
    block = &here;
    while (here.ended < threads) {
      if (!here.ready.empty()) {
        Fiber* next = here.ready.back();
        here.ready.pop_back();
        resume(next);
      } else if (here.started < threads) {
        start_fiber();
      } else {
        fail("threads wait at a barrier that the others do not reach");
      }
    }
    if (observer != nullptr) observer->block_ends();
    block = nullptr;
  }
}

} // namespace emulation
