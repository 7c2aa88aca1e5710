#include "engine/backend.h"

#include <array>

namespace lerac_fast::engine {
namespace {

struct Backends {
  std::optional<Backend> compiled, chosen;
};

Backends& backends(c10::DeviceType type) {
  static std::array<Backends, static_cast<size_t>(c10::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES)> of_types;
  return of_types[static_cast<size_t>(type)];
}

} // namespace

const Backend* find_backend(c10::DeviceType type) {
  const auto& [compiled, chosen] = backends(type);
  return chosen ? &*chosen : compiled ? &*compiled : nullptr;
}

void choose_backend(c10::DeviceType type, std::optional<Backend> backend) {
  backends(type).chosen = std::move(backend);
}

bool is_asynchronous(c10::DeviceType type) {
  const Backend* backend = find_backend(type);
  return backend != nullptr && backend->asynchronous;
}

bool has_compiled_backend(c10::DeviceType type) { return backends(type).compiled.has_value(); }

DriverVersions driver_versions(c10::DeviceType type) {
  const auto& compiled = backends(type).compiled;
  return compiled && compiled->driver ? compiled->driver() : DriverVersions{};
}

RegisterBackend::RegisterBackend(c10::DeviceType type, Backend backend) {
  backends(type).compiled = std::move(backend);
}

} // namespace lerac_fast::engine
