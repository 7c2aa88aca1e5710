// The current device and torch's stream on it.
#pragma once

#include <c10/core/Device.h>

namespace lerac_fast::cuda {

// Makes a device current for as long as it lives.
class OnDevice {
 public:
  explicit OnDevice(c10::Device device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  // torch's current stream on the device, a cudaStream_t.
  void* stream() const { return stream_; }

 private:
  c10::Device previous_;
  void* stream_;
};

// Whether the host goes on while kernels run, so that numbers in the device's memory are read by kernels alone.
bool is_asynchronous();

// Whether what is launched on the device now is recorded into a graph and not run.
bool is_capturing(c10::Device device);

} // namespace lerac_fast::cuda
