#include "engine/scaling.h"

#include <ATen/ops/full.h>
#include <torch/csrc/autograd/python_variable.h>

#include "engine/backend.h"

namespace lerac_fast::engine {

namespace py = pybind11;

Scaling::Number Scaling::parse(py::handle object, double absent) {
  if (object.is_none()) return {absent, {}};
  if (!THPVariable_Check(object.ptr())) return {object.cast<double>(), {}};
  const at::Tensor& tensor = THPVariable_Unpack(object.ptr());
  if (!is_asynchronous(tensor.device().type())) return {tensor.item().toDouble(), {}};
  return {std::nullopt, tensor};
}

Scaling::Scaling(py::handle grad_scale, py::handle found_inf)
    : has_scale_(!grad_scale.is_none()), scale_(parse(grad_scale, 1)), found_inf_(parse(found_inf, 0)) {}

double Scaling::Number::read() {
  if (!value) {
    const py::gil_scoped_release no_gil; // it may take as long as the device's queue
    value = tensor.item().toDouble();
  }
  return *value;
}

bool Scaling::lies_on_device() const { return scale_.tensor.defined() || found_inf_.tensor.defined(); }

bool Scaling::is_read_by(at::Device device) const {
  const auto on_this_kind = [&](const Number& n) {
    return n.tensor.defined() && n.tensor.device().type() == device.type();
  };
  return on_this_kind(scale_) || on_this_kind(found_inf_);
}

double Scaling::inverse_scale() { return 1 / scale_.read(); }

bool Scaling::overflown() { return found_inf_.read() != 0; }

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
