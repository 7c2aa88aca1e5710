// TEST ONLY. Stands in for CUDA's header of this name, so that a C++ compiler takes the .cu files and their kernels run
// on the CPU:  g++ -std=c++20 -x c++ -ffp-contract=off -Wno-unknown-pragmas -I tools/cuda_emulation -I csrc x.cu
//
// It is stricter than a GPU where a kernel could rely on luck: blocks and threads run one at a time, in a scrambled
// order, as far as they get without the others; a barrier that not all threads of the block or warp reach is an error.
// Out-of-bounds accesses are found by -fsanitize=address,undefined. What it has is what the kernels use.
#pragma once

#include <cstdint>
#include <tuple>
#include <utility>

#include "emulated_block.h" // threadIdx and its like
#include "overlap.h"

#define CUDART_VERSION 13000

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static thread_local

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned mask = 0xffffffff) { emulation::exchange(mask, 0, 0); }

template <typename T> T __shfl_sync(unsigned mask, T value, int lane) {
  return emulation::exchange(mask, value, unsigned(lane) % emulation::kWarp);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return emulation::exchange(mask, value, emulation::lane() ^ unsigned(lanes));
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned lanes) {
  const unsigned from = emulation::lane() + lanes;
  return emulation::exchange(mask, value, from < emulation::kWarp ? from : emulation::lane());
}
template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned lanes) {
  return emulation::exchange(mask, value, emulation::lane() < lanes ? emulation::lane() : emulation::lane() - lanes);
}

inline void cudaTriggerProgrammaticLaunchCompletion() { emulation::overlap.let_next_begin(); }
inline void cudaGridDependencySynchronize() { emulation::overlap.wait(); }

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
template <typename T> void __stwb(T* to, T value) { *to = value; }

// ---- devices ----

using cudaStream_t = struct CUstream_st*;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotSupported = 801
};

inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaSuccess:
    return "no error";
  case cudaErrorNotSupported:
    return "operation not supported";
  default:
    return "invalid configuration argument";
  }
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

inline cudaError_t cudaGetDevice(int* device) {
  *device = emulation::observer != nullptr ? emulation::observer->current_device() : 0;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

namespace emulation {

inline constexpr int kOldDevice = 2; // of sm_80; all others are of sm_90

} // namespace emulation

struct cudaFuncAttributes {
  int ptxVersion;
};
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  int device = 0;
  (void)cudaGetDevice(&device);
  attributes->ptxVersion = device == emulation::kOldDevice ? 80 : 90;
  return cudaSuccess;
}

// ---- launches ----

enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  union {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

namespace emulation {

template <typename... Parameters> struct Call {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;

  // Not inlined, so that all that it reads within the kernel is in here.
  __attribute__((noinline)) void operator()() const {
    const Within code(true);
    std::apply(kernel, arguments);
  }
};

} // namespace emulation

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 32764, "more arguments than a kernel can have");
  const unsigned blocks = config->gridDim.x, threads = config->blockDim.x;
  if (blocks == 0 || blocks > 0x7fffffff || threads == 0 || threads > 1024) return cudaErrorInvalidConfiguration;
  const bool overlaps = config->numAttrs == 1 && config->attrs->val.programmaticStreamSerializationAllowed != 0;
  cudaFuncAttributes attributes;
  if (overlaps && (cudaFuncGetAttributes(&attributes, nullptr), attributes.ptxVersion < 90))
    return cudaErrorNotSupported;
  const emulation::Call<Parameters...> call{kernel, {std::forward<Arguments>(arguments)...}};
  emulation::Observer* const observer = emulation::observer;
  emulation::overlap.launch_begins(overlaps);
  if (observer != nullptr) observer->launch_begins({config->stream, blocks, threads, &call, sizeof(call), overlaps});
  emulation::run(blocks, threads, [&call] { call(); });
  if (observer != nullptr) observer->launch_ends();
  emulation::overlap.launch_ends(blocks, threads, call);
  return cudaSuccess;
}
