// Where backends enter: each registers itself for its device type when the module is loaded.
#pragma once

#include <c10/core/DeviceType.h>

#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// Updates every row of the table, in place. Called without the GIL.
using UpdateTable = void (*)(const TensorTable&);

// The backend of a device type, or nullptr.
UpdateTable find_backend(c10::DeviceType type);

struct RegisterBackend {
  RegisterBackend(c10::DeviceType type, UpdateTable update);
};

} // namespace lerac_fast::engine
