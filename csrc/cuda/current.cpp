#include "cuda/current.h"

#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>

namespace lerac_fast::cuda {

OnDevice::OnDevice(c10::Device device)
    : previous_(c10::DeviceType::CUDA, c10::cuda::ExchangeDevice(device.index())),
      stream_(c10::cuda::getCurrentCUDAStream(device.index()).stream()) {}

OnDevice::~OnDevice() { c10::cuda::MaybeExchangeDevice(previous_.index()); }

bool is_asynchronous() { return true; }

bool is_capturing(c10::Device device) {
  const OnDevice current(device);
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

} // namespace lerac_fast::cuda
