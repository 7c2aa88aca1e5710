// The emulated device is the CPU, which has no streams and no graphs.
#include "cuda/current.h"

#include <cstdlib>
#include <string>

namespace lerac_fast::cuda {

OnDevice::OnDevice(c10::Device device) : previous_(device), stream_(nullptr) {}
OnDevice::~OnDevice() = default;

// LERAC_FAST_EMULATED_NUMBERS=device: step counts, tensor rates and loss scales count as the device's, as on a GPU
// where they lie in its memory; else as the host's.
bool is_asynchronous() {
  const char* where = std::getenv("LERAC_FAST_EMULATED_NUMBERS");
  return where != nullptr && std::string(where) == "device";
}

bool is_capturing(c10::Device) { return false; }

} // namespace lerac_fast::cuda
