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

  // Whether the kernels of this device read them where they lie.
  bool is_read_by(at::Device device) const;
  bool has_scale() const { return has_scale_; }

  // Whether the host knows them; `read` makes it so. It waits for a device that has them, without the GIL.
  bool is_known() const { return scale_.value && found_inf_.value; }
  void read();
  // Of numbers that the host knows.
  double inverse_scale() const { return 1 / *scale_.value; }
  bool overflown() const { return *found_inf_.value != 0; }

  // Where they lie for the kernels of this device that read them. Valid as long as this object.
  DeviceScaling on(at::Device device);

 private:
  struct Number {
    std::optional<double> value;
    at::Tensor tensor; // where it lies for the kernels of a device; undefined: the host alone knows the number
    void read();
  };
  static Number parse(pybind11::handle object, double absent);
  const float* address_on(at::Device device, const Number& number);

  bool has_scale_ = false;
  Number scale_{1.0, {}}, found_inf_{0.0, {}};
  std::vector<at::Tensor> held_;
};

} // namespace lerac_fast::engine
