// The operands of one kind of update, laid out for a backend; and the rules by which tensors enter it.
#pragma once

#include <ATen/core/Tensor.h>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "engine/row.h"
#include "engine/rules.h"

namespace lerac_fast::engine {

// The loss scale of a GradScaler and whether gradients have overflown, where they lie on the device: float32 numbers.
// nullptr: there is none, or the host knows it.
struct DeviceScaling {
  const float* grad_scale = nullptr;
  const float* found_inf = nullptr; // not 0: nothing may change
};

// In place of a count of steps: the device counts, or nobody does.
inline constexpr double kUncounted = -std::numeric_limits<double>::infinity();

// All rows that one backend call updates: they share device, rule and storage types. To the backend they are one
// concatenated array: row i holds the elements [offsets[i], offsets[i + 1]).
struct TensorTable {
  at::Device device;
  Rule rule;
  Elements elements;
  std::vector<Row> rows;
  std::vector<int64_t> offsets;
  std::vector<math::Hyperparameters> hyperparameters;
  std::vector<DeviceNumber> rates; // the lr of hyperparameters[i], where it lies on the device
  std::vector<double> counts;      // the steps that their bias corrections are for, or kUncounted
  DeviceScaling scaling;
  std::shared_ptr<void> kept; // whatever the backend keeps from step to step

  bool holds(at::Device device_, Rule rule_, Elements elements_) const {
    return device == device_ && rule == rule_ && elements == elements_;
  }
  void clear();
  void clear_numbers();
  void fit(); // gives back most of the room for more
  // Returns the row's index.
  int32_t append(const Row& row, int64_t numel, const math::Hyperparameters& h, DeviceNumber rate, double count);
  // Puts numbers behind the others and returns their index; that of the last, if they are equal.
  int32_t append(const math::Hyperparameters& h, DeviceNumber rate, double count);
  int64_t numel() const { return offsets.back(); }
  int64_t numel(size_t row) const { return offsets[row + 1] - offsets[row]; }
};

// The storage types for these parameter and state dtypes, or nothing where the kernels do not serve the pair.
std::optional<Elements> elements_of(at::ScalarType param, at::ScalarType state);

// The reverse.
struct Dtypes {
  at::ScalarType param, state;
};
Dtypes dtypes_of(Elements elements);

// Bytes of an element of the parameter.
int64_t param_itemsize(Elements elements);

inline bool same_shape(const at::Tensor& a, const at::Tensor& b) {
  const auto sizes_a = a.sizes(), sizes_b = b.sizes();
  bool same = sizes_a.size() == sizes_b.size();
  for (size_t d = 0; same && d < sizes_a.size(); ++d) same = sizes_a[d] == sizes_b[d]; // == would call memcmp
  return same;
}

// Whether two tensors of equal shape place their elements in the same dense order.
inline bool share_dense_layout(const at::Tensor& a, const at::Tensor& b) {
  if (!a.is_non_overlapping_and_dense() || !b.is_non_overlapping_and_dense()) return false;
  const auto sizes = a.sizes(), strides_a = a.strides(), strides_b = b.strides();
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] > 1 && strides_a[d] != strides_b[d]) return false; // the stride of a single element means nothing
  }
  return true;
}

// Whether a tensor is nothing but numbers in memory, on any device. Whatever else torch has or will have, is special.
inline bool is_plain(const at::Tensor& tensor) {
  using c10::DispatchKey;
  static constexpr c10::DispatchKeySet keys =
      c10::DispatchKeySet(c10::DispatchKeySet::RAW, c10::full_backend_mask) |
      c10::DispatchKeySet({DispatchKey::Dense, DispatchKey::ADInplaceOrView, DispatchKey::AutogradFunctionality}) |
      c10::autocast_dispatch_keyset;
  return (tensor.key_set() | keys) == keys && !tensor.is_inference();
}
const char* describe_special(const at::Tensor& tensor); // of one that is not plain

// Why the numbers of a tensor cannot be reached through a raw pointer, or nullptr where they can. To be asked of every
// operand, and of a tensor subclass before all else: its sizes, too, may take Python code.
inline const char* why_unreachable(const at::Tensor& tensor) {
  return is_plain(tensor) ? nullptr : describe_special(tensor);
}

// Why the kernels do not serve a parameter or gradient, or nullptr where they do.
const char* why_unserved(const at::Tensor& tensor);

// Whether the kernels of a device read this number where it lies: one plain float32 or float64 number there, and
// kernels that run when the host has gone on.
bool is_device_number(const at::Tensor& number, at::Device device);
DeviceNumber device_number(const at::Tensor& number);

} // namespace lerac_fast::engine
