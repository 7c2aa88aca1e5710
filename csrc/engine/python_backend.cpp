#include "engine/python_backend.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <torch/csrc/utils/pybind.h>

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

template <typename T> py::bytes bytes_of(const std::vector<T>& values) {
  return py::bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

int64_t address(const void* pointer) { return reinterpret_cast<int64_t>(pointer); }

py::bytes pack_rows(const TensorTable& table) {
  std::vector<int64_t> packed;
  for (size_t r = 0; r < table.rows.size(); ++r) {
    const Row& row = table.rows[r];
    packed.insert(packed.end(), {address(row.param), address(row.gradient)});
    for (const void* state : row.states) packed.push_back(address(state));
    packed.insert(packed.end(),
                  {table.numel(r), row.hyperparameters, address(row.step.address()), row.step.is_double()});
  }
  return bytes_of(packed);
}

py::bytes pack_numbers(const TensorTable& table) {
  std::vector<double> packed;
  for (const auto& h : table.hyperparameters) {
#define X(type, name, value) packed.push_back(static_cast<double>(h.name));
    LERAC_FAST_NUMBERS(X)
#undef X
  }
  return bytes_of(packed);
}

py::bytes pack_rates(const TensorTable& table) {
  std::vector<int64_t> packed;
  for (const auto& rate : table.rates) packed.insert(packed.end(), {address(rate.address()), rate.is_double()});
  return bytes_of(packed);
}

// Function modes are not to see what a backend does: that of torch.set_default_device would put a table's numbers
// there.
class NoFunctionModes {
 public:
  NoFunctionModes() { TLS::set_disabled_state(at::impl::TorchFunctionDisabledState::ALL_DISABLED); }
  ~NoFunctionModes() { TLS::set_disabled_state(before_); }

 private:
  using TLS = at::impl::PythonTorchFunctionTLS;
  const at::impl::TorchFunctionDisabledState before_ = TLS::get_disabled_state();
};

// A Python object that is kept by code without the GIL.
std::shared_ptr<void> keep(py::object object) {
  return {object.release().ptr(), [](void* pointer) {
            const py::gil_scoped_acquire gil;
            Py_DECREF(static_cast<PyObject*>(pointer));
          }};
}

} // namespace

Backend python_backend(py::function update, py::function is_capturing, bool asynchronous) {
  // Never freed, as backends live as long as the process and outlive the interpreter.
  const py::handle update_ = update.release(), is_capturing_ = is_capturing.release();
  return {[update_](TensorTable& table) {
            const py::gil_scoped_acquire gil;
            const NoFunctionModes no_modes;
            PackedTable packed{table.device,
                               table.rule,
                               table.elements,
                               pack_rows(table),
                               pack_numbers(table),
                               pack_rates(table),
                               address(table.scaling.grad_scale),
                               address(table.scaling.found_inf),
                               py::none()};
            if (table.kept) packed.kept = py::reinterpret_borrow<py::object>(static_cast<PyObject*>(table.kept.get()));
            const py::object shared = py::cast(&packed, py::return_value_policy::reference);
            update_(shared);
            table.kept = keep(std::move(packed.kept));
          },
          asynchronous, [is_capturing_](at::Device device) { return is_capturing_(device).cast<bool>(); }};
}

} // namespace lerac_fast::engine
