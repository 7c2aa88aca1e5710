// The emulated device is the CPU, which has no streams and no graphs; those that somebody watches are the recorder's.
#include "cuda/current.h"

#include <cstdlib>
#include <string>

#include "recorder.h"

namespace lerac_fast::cuda {

OnDevice::OnDevice(c10::Device device) : previous_(device), stream_(nullptr) {
  if (emulation::Device* watched = emulation::watched_device()) {
    previous_ = c10::Device(c10::DeviceType::CUDA, c10::DeviceIndex(watched->current));
    watched->current = watched->of_tensors;
    stream_ = reinterpret_cast<void*>(intptr_t(watched->current_stream_of(watched->current)));
  }
}

OnDevice::~OnDevice() {
  if (emulation::Device* watched = emulation::watched_device()) watched->current = previous_.index();
}

// LERAC_FAST_EMULATED_NUMBERS=device: step counts, tensor rates and loss scales count as the device's, as on a GPU
// where they lie in its memory; else as the host's.
bool is_asynchronous() {
  const char* where = std::getenv("LERAC_FAST_EMULATED_NUMBERS");
  return where != nullptr && std::string(where) == "device";
}

bool is_capturing(c10::Device) {
  const emulation::Device* watched = emulation::watched_device();
  return watched != nullptr && watched->capturing &&
         *watched->capturing == watched->current_stream_of(watched->of_tensors);
}

} // namespace lerac_fast::cuda
