// The Python side of the module: the step engine and what was built.
#include <ATen/Parallel.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/capability.h"
#include "engine/step.h"

namespace py = pybind11;
using lerac_fast::engine::Optimizer;
using lerac_fast::engine::Step;

PYBIND11_MODULE(_C, m) {
  py::enum_<Optimizer>(m, "Optimizer")
      .value("SGD", Optimizer::kSgd)
      .value("ADAM", Optimizer::kAdam)
      .value("ADAMAX", Optimizer::kAdamax);

  py::class_<Step>(m, "Step")
      .def(py::init<Optimizer>(), py::arg("optimizer"))
      .def(
          "__call__",
          [](Step& step, py::handle param_groups, py::handle state, double inverse_scale,
             const py::function& step_unserved) {
            step(param_groups.ptr(), state.ptr(), inverse_scale, step_unserved);
          },
          py::arg("param_groups"), py::arg("state"), py::arg("inverse_scale"), py::arg("step_unserved"));

  m.def(
      "check_param_group",
      [](Optimizer optimizer, const py::dict& param_group, Py_ssize_t index) {
        lerac_fast::engine::read_hyperparameters(optimizer, {param_group.ptr(), index});
      },
      py::arg("optimizer"), py::arg("param_group"), py::arg("index"));

  m.attr("compiler") = LERAC_FAST_COMPILER;
  m.def("cpu_capability", [] { return lerac_fast::cpu::name(lerac_fast::cpu::capability()); });
  m.def("available_cpu_capabilities", [] {
    std::vector<std::string> names;
    for (auto c : lerac_fast::cpu::available_capabilities()) names.emplace_back(lerac_fast::cpu::name(c));
    return names;
  });
  // Read once, here, so that a wrong LERAC_FAST_CPU_CAPABILITY stops the import and not a step.
  lerac_fast::cpu::capability();
}
