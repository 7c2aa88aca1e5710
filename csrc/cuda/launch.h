// Launching kernels. Without torch, so that the kernels compile in seconds and can be checked alone.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>
#include <stdexcept>
#include <string>
#include <utility>

#include "engine/launches.h"

namespace lerac_fast::cuda {

// `stream` is a cudaStream_t.
inline cudaLaunchConfig_t configured(int64_t blocks, int threads, void* stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = static_cast<cudaStream_t>(stream);
  return config;
}

// Launches on the current device. Throws std::runtime_error where the launch fails; what fails later, on the device, is
// reported by whatever waits for it.
template <typename... Parameters, typename... Arguments>
void launch(const cudaLaunchConfig_t& config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  if (error != cudaSuccess) {
    (void)cudaGetLastError(); // clears it: torch would report it as its own
    const char* advice = error == cudaErrorNoKernelImageForDevice
                             ? ": lerac_fast was compiled for other GPUs, see lerac_fast.build_info(). Use Triton's "
                               "kernels: lerac_fast.gpu_backend('triton')"
                             : "";
    throw std::runtime_error(std::string("lerac_fast: a CUDA kernel could not be launched: ") +
                             cudaGetErrorString(error) + advice);
  }
  engine::launches.fetch_add(1, std::memory_order_relaxed);
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream, Arguments&&... arguments) {
  launch(configured(blocks, threads, stream), kernel, std::forward<Arguments>(arguments)...);
}

} // namespace lerac_fast::cuda
