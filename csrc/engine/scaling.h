// The loss scale of a GradScaler, which lies on the host or on a device.
#pragma once

#include <ATen/core/Tensor.h>
#include <optional>
#include <pybind11/pybind11.h>
#include <vector>

#include "engine/tensor_table.h"

namespace lerac_fast::engine {

// What a GradScaler hands to one step: its scale, unless gradients are unscaled already, and whether it found an
// infinity or NaN among them.
class Scaling {
 public:
  Scaling() = default;
  // Each is None, a number or a tensor of one number.
  Scaling(pybind11::handle grad_scale, pybind11::handle found_inf);

  // Whether a device has the numbers, so that the host would have to wait for them.
  bool lies_on_device() const;
  // Whether the kernels of this device read them where they lie.
  bool is_read_by(at::Device device) const;
  bool has_scale() const { return has_scale_; }

  // As the host reads them, once: it waits for a device that has them.
  double inverse_scale();
  bool overflown();

  // Where they lie for the kernels of this device that read them. Valid as long as this object.
  DeviceScaling on(at::Device device);

 private:
  struct Number {
    std::optional<double> value;
    at::Tensor tensor; // undefined: the host knows the number
    double read();
  };
  static Number parse(pybind11::handle object, double absent);
  const float* address_on(at::Device device, const Number& number);

  bool has_scale_ = false;
  Number scale_{1.0, {}}, found_inf_{0.0, {}};
  std::vector<at::Tensor> held_;
};

} // namespace lerac_fast::engine
