// What a backend sees of one tensor. Plain data without torch: also read by kernels that are compiled apart.
#pragma once

#include <cstdint>

#include "math/inline.h"

namespace lerac_fast::engine {

inline constexpr int kMaxStates = 3;

// A number in the memory of the tensors' device: kernels read it when they run, so that the host need not wait for it.
class DeviceNumber {
 public:
  DeviceNumber() = default; // the host knows the number
  // Of a float or a double, which lies where its type has to.
  DeviceNumber(void* address, bool is_double) : bits_(reinterpret_cast<uintptr_t>(address) | uintptr_t(is_double)) {}

  LERAC_INLINE bool is_known_to_host() const { return bits_ == 0; }
  LERAC_INLINE void* address() const { return reinterpret_cast<void*>(bits_ & ~uintptr_t(1)); }
  LERAC_INLINE bool is_double() const { return (bits_ & 1) != 0; }

  bool operator==(const DeviceNumber&) const = default;

 private:
  uintptr_t bits_ = 0; // the address and, where aligned addresses have a zero, the type
};

// One tensor's operands. All of them hold the same number of elements in the same dense order; none overlaps another.
struct Row {
  void* param;              // read and written
  void* gradient;           // read; written only when a loss scale is divided out
  void* states[kMaxStates]; // read and written, in the order of the rule's state keys
  DeviceNumber step;        // state["step"], to be counted up by the backend; bias corrections follow from it
  int32_t hyperparameters;  // index into the table's hyperparameters
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
