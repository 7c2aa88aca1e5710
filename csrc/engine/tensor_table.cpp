#include "engine/tensor_table.h"

#include "engine/backend.h"

namespace lerac_fast::engine {

void TensorTable::clear() {
  rows.clear();
  clear_numbers();
  offsets.assign(1, 0);
  scaling = {};
}

void TensorTable::clear_numbers() {
  hyperparameters.clear();
  rates.clear();
  counts.clear();
}

void TensorTable::fit() {
  const auto fit = [](auto& vector) {
    if (vector.capacity() > vector.size() + vector.size() / 8) vector.shrink_to_fit();
  };
  fit(rows);
  fit(offsets);
  fit(hyperparameters);
  fit(rates);
  fit(counts);
}

int32_t TensorTable::append(const math::Hyperparameters& h, DeviceNumber rate, double count) {
  if (hyperparameters.empty() || hyperparameters.back() != h || rates.back() != rate || counts.back() != count) {
    hyperparameters.push_back(h);
    rates.push_back(rate);
    counts.push_back(count);
  }
  return static_cast<int32_t>(hyperparameters.size() - 1);
}

int32_t TensorTable::append(const Row& row, int64_t numel, const math::Hyperparameters& h, DeviceNumber rate,
                            double count) {
  rows.push_back(row);
  rows.back().hyperparameters = append(h, rate, count);
  offsets.push_back(offsets.back() + numel);
  return static_cast<int32_t>(rows.size() - 1);
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

Dtypes dtypes_of(Elements elements) {
  switch (elements) {
  case Elements::kFloat:
    return {at::kFloat, at::kFloat};
  case Elements::kDouble:
    return {at::kDouble, at::kDouble};
  case Elements::kBFloat16:
    return {at::kBFloat16, at::kBFloat16};
  case Elements::kHalf:
    return {at::kHalf, at::kHalf};
  case Elements::kBFloat16FloatStates:
    return {at::kBFloat16, at::kFloat};
  case Elements::kHalfFloatStates:
    return {at::kHalf, at::kFloat};
  }
  __builtin_unreachable();
}

int64_t param_itemsize(Elements elements) {
  return elements == Elements::kDouble ? 8 : elements == Elements::kFloat ? 4 : 2;
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
  return number.numel() == 1 && (number.scalar_type() == at::kFloat || number.scalar_type() == at::kDouble) &&
         reinterpret_cast<uintptr_t>(number.const_data_ptr()) % number.itemsize() == 0;
}

DeviceNumber device_number(const at::Tensor& number) {
  return {number.mutable_data_ptr(), number.scalar_type() == at::kDouble};
}

} // namespace lerac_fast::engine
