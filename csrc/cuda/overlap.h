// Two launches that overlap: the blocks of the second are there while the first still runs, and wait where they read
// what it writes. CUDA calls this programmatic dependent launch; GPUs have it from sm_90 on.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "cuda/launch.h"

// From this CUDA on graphs can be captured of such launches. The driver has to know it, too.
#define LERAC_FAST_OVERLAP_VERSION 12030
#define LERAC_FAST_CAN_OVERLAP (CUDART_VERSION >= LERAC_FAST_OVERLAP_VERSION)

namespace lerac_fast::cuda {

// ---- in kernels ----

#if LERAC_FAST_CAN_OVERLAP && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900)
#define LERAC_FAST_IF_OVERLAPPING(statement) statement
#else
#define LERAC_FAST_IF_OVERLAPPING(statement)
#endif

// In the first: the second may begin. It may then run at any time, and sees nothing of the first for sure.
__device__ __forceinline__ void let_next_begin() {
  LERAC_FAST_IF_OVERLAPPING(cudaTriggerProgrammaticLaunchCompletion();)
}

// In the second: until the first has ended, and all that it wrote can be read. Every block of a launch by
// `launch_overlapping` calls it, even one that finds nothing to do: what comes after the second begins when the second
// has ended, and the first has ended by then only if the second has waited for it.
__device__ __forceinline__ void wait_for_previous() { LERAC_FAST_IF_OVERLAPPING(cudaGridDependencySynchronize();) }

#undef LERAC_FAST_IF_OVERLAPPING

// ---- launches ----

// Whether a kernel that calls `wait_for_previous` has the wait as the current device runs it: made for sm_90 or later,
// be it as machine code or as PTX that the driver compiles. All kernels are made for the same architectures, so that
// the first one that is asked about answers for the others.
inline bool has_wait(const void* kernel) {
#if LERAC_FAST_CAN_OVERLAP
  enum class Answer : uint8_t { kNone, kNo, kYes };
  static std::array<std::atomic<Answer>, 128> answers{}; // by device: to ask takes as long as a launch
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || size_t(device) >= answers.size()) return false;
  Answer answer = answers[size_t(device)].load(std::memory_order_relaxed);
  if (answer == Answer::kNone) {
    int driver = 0;
    cudaFuncAttributes attributes{};
    if (cudaDriverGetVersion(&driver) != cudaSuccess || cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess) {
      (void)cudaGetLastError(); // the launch has the same error, and reports it
      return false;
    }
    answer = driver >= LERAC_FAST_OVERLAP_VERSION && attributes.ptxVersion >= 90 ? Answer::kYes : Answer::kNo;
    answers[size_t(device)].store(answer, std::memory_order_relaxed);
  }
  return answer == Answer::kYes;
#else
  (void)kernel;
  return false;
#endif
}

// Like `launch`, right behind one whose kernel calls `let_next_begin`. That one is launched by `launch` itself, always:
// so it has begun when all before it had ended, and there is nothing else that this one could overtake.
template <typename... Parameters, typename... Arguments>
void launch_overlapping(void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream,
                        Arguments&&... arguments) {
  cudaLaunchConfig_t config = configured(blocks, threads, stream);
  const bool overlaps =
      engine::may_overlap.load(std::memory_order_relaxed) && has_wait(reinterpret_cast<const void*>(kernel));
#if LERAC_FAST_CAN_OVERLAP
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = overlaps ? 1 : 0;
#endif
  launch(config, kernel, std::forward<Arguments>(arguments)...);
  if (overlaps) engine::overlapping_launches.fetch_add(1, std::memory_order_relaxed);
}

} // namespace lerac_fast::cuda
