#include "engine/tensor_table.h"

#include "engine/backend.h"

namespace lerac_fast::engine {

void TensorTable::clear() {
  rows.clear();
  hyperparameters.clear();
  rates.clear();
  offsets.assign(1, 0);
  scaling = {};
}

void TensorTable::append(const Row& row, const math::Hyperparameters& h, DeviceNumber rate) {
  if (hyperparameters.empty() || hyperparameters.back() != h || rates.back() != rate) {
    hyperparameters.push_back(h);
    rates.push_back(rate);
  }
  rows.push_back(row);
  rows.back().hyperparameters = static_cast<int32_t>(hyperparameters.size() - 1);
  offsets.push_back(offsets.back() + row.numel);
}

std::optional<Elements> elements_of(at::ScalarType param, at::ScalarType state) {
  using at::ScalarType;
  if (param == state) {
    switch (param) {
    case ScalarType::Float:
      return Elements::kFloat;
    case ScalarType::Double:
      return Elements::kDouble;
    case ScalarType::BFloat16:
      return Elements::kBFloat16;
    case ScalarType::Half:
      return Elements::kHalf;
    default:
      return std::nullopt;
    }
  }
  if (state == ScalarType::Float && param == ScalarType::BFloat16) return Elements::kBFloat16FloatStates;
  if (state == ScalarType::Float && param == ScalarType::Half) return Elements::kHalfFloatStates;
  return std::nullopt;
}

int64_t param_itemsize(Elements elements) {
  return elements == Elements::kDouble ? 8 : elements == Elements::kFloat ? 4 : 2;
}

bool same_shape(const at::Tensor& a, const at::Tensor& b) {
  const auto sizes_a = a.sizes(), sizes_b = b.sizes();
  bool same = sizes_a.size() == sizes_b.size();
  for (size_t d = 0; same && d < sizes_a.size(); ++d) same = sizes_a[d] == sizes_b[d]; // == would call memcmp
  return same;
}

bool share_dense_layout(const at::Tensor& a, const at::Tensor& b) {
  if (!a.is_non_overlapping_and_dense() || !b.is_non_overlapping_and_dense()) return false;
  const auto sizes = a.sizes(), strides_a = a.strides(), strides_b = b.strides();
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] > 1 && strides_a[d] != strides_b[d]) return false; // the stride of a single element means nothing
  }
  return true;
}

const char* describe_special(const at::Tensor& tensor) {
  using c10::DispatchKey;
  const auto keys = tensor.key_set();
  if (keys.has(DispatchKey::Python)) return "a tensor subclass with its own dispatch";
  if (tensor.is_inference()) return "an inference tensor";
  if (keys.has_any(c10::DispatchKeySet(
          {DispatchKey::FuncTorchBatched, DispatchKey::FuncTorchGradWrapper, DispatchKey::Functionalize}))) {
    return "a tensor inside a function transform";
  }
  if (keys.has_any(c10::DispatchKeySet({DispatchKey::Negative, DispatchKey::Conjugate, DispatchKey::ZeroTensor}))) {
    return "a lazily negated, conjugated or zero tensor";
  }
  return tensor.layout() != at::kStrided ? "not a strided tensor" : "not a plain tensor";
}

const char* why_unserved(const at::Tensor& tensor) {
  if (const char* reason = why_unreachable(tensor)) return reason;
  if (find_backend(tensor.device().type()) == nullptr) return "on a device without a lerac_fast backend";
  if (!elements_of(tensor.scalar_type(), tensor.scalar_type())) return "not float32, float64, bfloat16 or float16";
  return nullptr;
}

bool is_device_number(const at::Tensor& number, at::Device device) {
  if (number.device() != device || !is_asynchronous(device.type()) || why_unreachable(number) != nullptr) return false;
  return number.numel() == 1 && (number.scalar_type() == at::kFloat || number.scalar_type() == at::kDouble);
}

DeviceNumber device_number(const at::Tensor& number) {
  return {number.mutable_data_ptr(), number.scalar_type() == at::kDouble};
}

} // namespace lerac_fast::engine
