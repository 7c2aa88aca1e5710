// What a backend sees of one tensor. Plain data without torch: also read by kernels that are compiled apart.
#pragma once

#include <cstdint>

namespace lerac_fast::engine {

inline constexpr int kMaxStates = 3;

// A number in the memory of the tensors' device: kernels read it when they run, so that the host need not wait for it.
struct DeviceNumber {
  void* address = nullptr; // of a float or a double; nullptr: the host knows the number
  bool is_double = false;

  bool operator==(const DeviceNumber&) const = default;
};

// One tensor's operands. All of them hold `numel` elements in the same dense order; none overlaps another.
struct Row {
  void* param;              // read and written
  void* gradient;           // read; written only when a loss scale is divided out
  void* states[kMaxStates]; // read and written, in the order of the rule's state keys
  int64_t numel;
  int32_t hyperparameters; // index into the table's hyperparameters
  DeviceNumber step;       // state["step"], to be counted up by the backend; bias corrections follow from it
};

// Storage types of (parameter and gradient, states).
enum class Elements : uint8_t {
  kFloat,
  kDouble,
  kBFloat16,
  kHalf,
  kBFloat16FloatStates,
  kHalfFloatStates,
};
inline constexpr int kElements = 6;

} // namespace lerac_fast::engine
