#include "engine/backend.h"

#include <array>

namespace lerac_fast::engine {
namespace {

auto& backends() {
  static std::array<UpdateTable, static_cast<size_t>(c10::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES)> table{};
  return table;
}

} // namespace

UpdateTable find_backend(c10::DeviceType type) { return backends()[static_cast<size_t>(type)]; }

RegisterBackend::RegisterBackend(c10::DeviceType type, UpdateTable update) {
  backends()[static_cast<size_t>(type)] = update;
}

} // namespace lerac_fast::engine
