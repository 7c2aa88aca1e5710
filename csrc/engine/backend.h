// Where backends enter: each registers itself for its device type when the module is loaded.
#pragma once

#include <c10/core/DeviceType.h>
#include <functional>
#include <optional>

#include "engine/launches.h"
#include "engine/tensor_table.h"

namespace lerac_fast::engine {

struct Backend {
  // Updates every row of the table, in place. Called without the GIL.
  std::function<void(TensorTable&)> update;
  // Work is queued on the device. Numbers that lie there are read by the kernels, and the host never waits for them.
  bool asynchronous = false;
  // Whether what is queued now is recorded into a graph and not run.
  std::function<bool(at::Device)> is_capturing;
  // Elements up to which an update may keep the GIL: it runs no Python code, and is done, and soon, when it returns.
  int64_t brief = 0;
  // The driver's version here, and the oldest that its launches need.
  std::function<DriverVersions()> driver = {};
};

// The backend of a device type, or nullptr: the one that was chosen, else the compiled one.
const Backend* find_backend(c10::DeviceType type);

// From the next step on; nothing, to go back to the compiled one.
void choose_backend(c10::DeviceType type, std::optional<Backend> backend);

// Whether there is a backend for a device type, to whose devices work is queued.
bool is_asynchronous(c10::DeviceType type);

bool has_compiled_backend(c10::DeviceType type);

// Of the compiled one.
DriverVersions driver_versions(c10::DeviceType type);

struct RegisterBackend {
  RegisterBackend(c10::DeviceType type, Backend backend);
};

} // namespace lerac_fast::engine
