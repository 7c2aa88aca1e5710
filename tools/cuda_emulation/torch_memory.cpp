// TEST ONLY. While somebody watches, tensors that torch allocates on the CPU are memory of the emulated device, and
// torch's own operations on them work on its current stream.
#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <ATen/record_function.h>
#include <c10/core/CPUAllocator.h>

#include <cstring>
#include <memory>
#include <vector>

#include "recorder.h"

namespace emulation {
namespace {

// Freed memory is kept until nobody watches, so that no address has two meanings.
std::vector<at::DataPtr> kept;

struct Allocated {
  at::DataPtr data;
};

void release(void* context) {
  std::unique_ptr<Allocated> allocated(static_cast<Allocated*>(context));
  if (Device* device = watched_device(); device != nullptr && device->has(allocated->data.get())) {
    device->release(allocated->data.get());
    kept.push_back(std::move(allocated->data));
  }
}

class Allocator final : public at::Allocator {
 public:
  at::DataPtr allocate(size_t bytes) override {
    at::DataPtr data = c10::GetDefaultCPUAllocator()->allocate(bytes);
    if (bytes == 0 || !allocates_on_device()) return data;
    watched_device()->allocate(data.get(), bytes);
    void* const address = data.get();
    return {address, new Allocated{std::move(data)}, release, at::Device(at::kCPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};
Allocator allocator;

// Operations for whose result the host waits.
bool hands_to_host(const at::RecordFunction& function) {
  for (const char* name : {"aten::_local_scalar_dense", "aten::equal", "aten::nonzero"}) {
    if (strcmp(function.name(), name) == 0) return true;
  }
  return false;
}

bool copies(const at::RecordFunction& function) { return strcmp(function.name(), "aten::copy_") == 0; }

std::unique_ptr<at::ObserverContext> follow(const at::RecordFunction& function) {
  Device* device = watched_device();
  const auto schema = function.operator_schema();
  if (device == nullptr || !schema) return nullptr;
  device->work_here();
  int on_device = 0, on_host = 0;
  for (size_t i = 0; i < function.inputs().size() && i < schema->arguments().size(); ++i) {
    const c10::IValue& input = function.inputs()[i];
    if (!input.isTensor() || !input.toTensor().defined() || !input.toTensor().has_storage()) continue;
    const at::Tensor& tensor = input.toTensor();
    const bool is_on_device = tensor.numel() > 0 && device->has(tensor.const_data_ptr());
    ++(is_on_device ? on_device : on_host);
    const c10::AliasInfo* alias = schema->arguments()[i].alias_info();
    const bool is_viewed = alias != nullptr && !alias->isWrite();
    if (is_on_device && !is_viewed) device->use(reinterpret_cast<uint64_t>(tensor.const_data_ptr()), alias != nullptr);
  }
  if (on_device > 0 && (hands_to_host(function) || (copies(function) && on_host > 0))) device->synchronize();
  return nullptr;
}

at::CallbackHandle following = at::INVALID_CALLBACK_HANDLE;

} // namespace

void watch_torch(bool on) {
  if (on == (following != at::INVALID_CALLBACK_HANDLE)) return;
  if (on) {
    following =
        at::addGlobalCallback(at::RecordFunctionCallback(follow).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  } else {
    at::removeCallback(following);
    following = at::INVALID_CALLBACK_HANDLE;
  }
  c10::SetCPUAllocator(on ? static_cast<at::Allocator*>(&allocator) : c10::GetDefaultCPUAllocator());
  if (!on) kept.clear();
}

} // namespace emulation
