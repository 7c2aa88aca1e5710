// The Python side of the module: the step engine, what Python backends need of the ops, and what was built.
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "cpu/capability.h"
#include "engine/launches.h"
#include "engine/python_backend.h"
#include "engine/step.h"
#include "engine/tracing.h"
#include "math/gaussian.h"
#include "ops/gaussian_smooth.h"
#include "ops/sweeps.h"
#include "ops/tempered_cross_entropy.h"

namespace py = pybind11;
namespace engine = lerac_fast::engine;
namespace ops = lerac_fast::ops;

namespace {

void bind_engine(py::module_& m) {
  using engine::Optimizer;
  py::enum_<Optimizer> optimizers(m, "Optimizer");
#define X(name, ...) optimizers.value(#name, Optimizer::k##name);
  LERAC_FAST_OPTIMIZERS(X)
#undef X

  py::class_<engine::Step>(m, "Step")
      .def(py::init<Optimizer>(), py::arg("optimizer"))
      .def(
          "__call__",
          [](engine::Step& step, py::handle param_groups, py::handle state, py::handle grad_scale, py::handle found_inf,
             const py::function& step_unserved) {
            step(param_groups.ptr(), state.ptr(), {grad_scale, found_inf}, step_unserved);
          },
          py::arg("param_groups"), py::arg("state"), py::arg("grad_scale"), py::arg("found_inf"),
          py::arg("step_unserved"));

  m.def("why_traced", [] { return engine::why_traced(); });
  m.def("is_profiled", [] { return at::hasCallbacks(); });
  m.def(
      "check_param_group",
      [](Optimizer optimizer, const py::dict& param_group, Py_ssize_t index) {
        engine::read_numbers(optimizer, {param_group.ptr(), index});
      },
      py::arg("optimizer"), py::arg("param_group"), py::arg("index"));
}

void bind_backends(py::module_& m) {
  using engine::PackedTable;
  py::class_<PackedTable>(m, "PackedTable")
      .def_property_readonly("device", [](const PackedTable& t) { return t.device; })
      .def_property_readonly("rule", [](const PackedTable& t) { return engine::facts_of(t.rule).name; })
      .def_property_readonly("elements", [](const PackedTable& t) { return static_cast<int>(t.elements); })
      .def_readonly("rows", &PackedTable::rows)
      .def_readonly("numbers", &PackedTable::numbers)
      .def_readonly("rates", &PackedTable::rates)
      .def_readonly("grad_scale", &PackedTable::grad_scale)
      .def_readonly("found_inf", &PackedTable::found_inf)
      .def_readwrite("kept", &PackedTable::kept);

  py::dict rules;
  for (const auto& facts : engine::kRuleFacts) rules[facts.name] = facts.states;
  m.attr("RULES") = rules;
  py::list numbers;
#define X(type, name, value) numbers.append(#name);
  LERAC_FAST_NUMBERS(X)
#undef X
  m.attr("NUMBERS") = py::tuple(numbers);
  m.attr("RENEWALS_WITHOUT_WALK") = engine::kRenewalsWithoutWalk;

  m.def(
      "choose_python_backend",
      [](at::Device device, py::function update, py::function is_capturing, bool asynchronous) {
        engine::choose_backend(device.type(),
                               engine::python_backend(std::move(update), std::move(is_capturing), asynchronous));
      },
      py::arg("device"), py::arg("update"), py::arg("is_capturing"), py::arg("asynchronous"));
  m.def(
      "choose_compiled_backend", [](at::Device device) { engine::choose_backend(device.type(), std::nullopt); },
      py::arg("device"));
  m.def(
      "has_compiled_backend", [](at::Device device) { return engine::has_compiled_backend(device.type()); },
      py::arg("device"));
  m.def(
      "driver_versions",
      [](at::Device device) {
        const auto [present, needed] = engine::driver_versions(device.type());
        return std::pair(present, needed);
      },
      py::arg("device"));
  m.def("launches", [] { return engine::launches.load(); });
  m.def("overlapping_launches", [] { return engine::overlapping_launches.load(); });
  m.def("let_launches_overlap", [](bool on) { return engine::may_overlap.exchange(on); }, py::arg("on"));
}

void bind_ops(py::module_& m) {
  m.def(
      "gaussian_sum", [](int64_t radius, double sigma) { return lerac_fast::math::gaussian_sum(radius, sigma); },
      py::arg("radius"), py::arg("sigma"));
  m.def(
      "gaussian_weights",
      [](const at::Tensor& x, const at::Tensor& sigma, int64_t kernel_size, const std::vector<int64_t>& dims) {
        ops::check_gaussian_smooth(x, sigma, kernel_size, dims);
        return ops::gaussian_weights(x, sigma, kernel_size, dims);
      },
      py::arg("x"), py::arg("sigma"), py::arg("kernel_size"), py::arg("dims"));
  m.def(
      "gaussian_sweeps",
      [](const at::Tensor& x, const std::vector<int64_t>& dims) {
        py::list sweeps;
        for (const auto& [planes, plane] : ops::sweeps_over(x, dims)) {
          sweeps.append(py::make_tuple(planes, plane.rows, plane.columns, plane.inner, plane.row_stride,
                                       plane.across_rows, plane.across_columns));
        }
        return sweeps;
      },
      py::arg("x"), py::arg("dims"));
  m.def(
      "check_tempered_cross_entropy",
      [](const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& sigma,
         const std::optional<at::Tensor>& weight, const std::string& reduction, double label_smoothing) {
        ops::check_tempered_cross_entropy(logits, targets, sigma, weight, reduction, label_smoothing);
      },
      py::arg("logits"), py::arg("targets"), py::arg("sigma"), py::arg("weight"), py::arg("reduction"),
      py::arg("label_smoothing"));
  m.def("check_tempered_cross_entropy_backward", &ops::check_tempered_cross_entropy_backward, py::arg("gradient"),
        py::arg("logits"), py::arg("targets"), py::arg("sigma"), py::arg("weight"), py::arg("statistics"),
        py::arg("label_smoothing"));
}

void bind_build_info(py::module_& m) {
  namespace cpu = lerac_fast::cpu;
  m.attr("compiler") = LERAC_FAST_COMPILER;
  m.def("cpu_capability", [] { return cpu::name(cpu::capability()); });
  m.def("available_cpu_capabilities", [] {
    std::vector<std::string> names;
    for (auto c : cpu::available_capabilities()) names.emplace_back(cpu::name(c));
    return names;
  });
  // Read once, here, so that a wrong LERAC_FAST_CPU_CAPABILITY stops the import and not a step.
  cpu::capability();
}

} // namespace

PYBIND11_MODULE(_C, m) {
  bind_engine(m);
  bind_backends(m);
  bind_ops(m);
  bind_build_info(m);
}
