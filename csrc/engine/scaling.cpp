#include "engine/scaling.h"

#include <ATen/ops/full.h>

#include "engine/backend.h"
#include "engine/python_tensor.h"

namespace lerac_fast::engine {

namespace py = pybind11;

Scaling::Number Scaling::parse(py::handle object, double absent) {
  if (object.is_none()) return {absent, {}};
  if (!is_tensor(object.ptr())) return {object.cast<double>(), {}};
  const at::Tensor& tensor = THPVariable_Unpack(object.ptr());
  if (is_asynchronous(tensor.device().type()) && why_unreachable(tensor) == nullptr) return {std::nullopt, tensor};
  return {tensor.item().toDouble(), {}};
}

Scaling::Scaling(py::handle grad_scale, py::handle found_inf)
    : has_scale_(!grad_scale.is_none()), scale_(parse(grad_scale, 1)), found_inf_(parse(found_inf, 0)) {}

void Scaling::Number::read() {
  if (!value) value = tensor.item().toDouble();
}

void Scaling::read() {
  const py::gil_scoped_release no_gil; // it may take as long as the device's queue
  scale_.read();
  found_inf_.read();
}

bool Scaling::is_read_by(at::Device device) const {
  const auto on_this_kind = [&](const Number& n) {
    return n.tensor.defined() && n.tensor.device().type() == device.type();
  };
  return on_this_kind(scale_) || on_this_kind(found_inf_);
}

const float* Scaling::address_on(at::Device device, const Number& number) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  held_.push_back(number.tensor.defined() ? number.tensor.to(options, /*non_blocking=*/true)
                                          : at::full({}, *number.value, options));
  return held_.back().const_data_ptr<float>();
}

DeviceScaling Scaling::on(at::Device device) {
  return {has_scale_ ? address_on(device, scale_) : nullptr, address_on(device, found_inf_)};
}

} // namespace lerac_fast::engine
