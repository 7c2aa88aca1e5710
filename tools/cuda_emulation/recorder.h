// TEST ONLY. Records what kernels do with the memory of the emulated device, while somebody watches. Python reads it,
// by ctypes (tools/gpu_code/emulated.py).
#pragma once

#include "device.h"

namespace emulation {

// nullptr while nobody watches.
Device* watched_device();

// Told when watching begins and ends, so that memory becomes the device's where it is allocated.
void watch_torch(bool on);

// Whether what is allocated now is the device's, and not the host's.
bool allocates_on_device();

} // namespace emulation
