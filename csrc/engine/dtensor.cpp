#include "engine/dtensor.h"

#include <structmember.h>

namespace lerac_fast::engine {

namespace py = pybind11;

namespace {

py::object own(PyObject* object) { return py::reinterpret_borrow<py::object>(object); }

// The offset of a slot in the instances of its class, or 0 where it is no slot that holds an object.
Py_ssize_t offset_of(const py::object& type, const char* slot) {
  const py::object descriptor = py::getattr(type, slot, py::none());
  if (Py_TYPE(descriptor.ptr()) != &PyMemberDescr_Type) return 0;
  const PyMemberDef* member = reinterpret_cast<PyMemberDescrObject*>(descriptor.ptr())->d_member;
  return member->type == T_OBJECT_EX ? member->offset : 0;
}

bool holds_partial_values(py::handle spec) {
  for (const py::handle placement : spec.attr("placements")) {
    if (placement.attr("is_partial")().cast<bool>()) return true;
  }
  return false;
}

} // namespace

void find_dtensor_class() {
  if (dtensor_class.type != nullptr) return;
  static PyObject* const name = PyUnicode_InternFromString("torch.distributed.tensor");
  const auto module = py::reinterpret_steal<py::object>(PyImport_GetModule(name));
  if (!module) return PyErr_Clear();
  py::object type = py::getattr(module, "DTensor", py::none());
  if (!PyType_Check(type.ptr())) return; // the module is just being imported
  const Py_ssize_t local_tensor = offset_of(type, "_local_tensor"), spec = offset_of(type, "_spec");
  if (local_tensor == 0 || spec == 0) return; // a torch that keeps them elsewhere: its own step serves
  // Never freed, as the class lives as long as the process.
  dtensor_class = {reinterpret_cast<PyTypeObject*>(type.release().ptr()), local_tensor, spec};
}

Layout compare_layouts(py::handle spec, py::handle other) {
  if (spec.is(other)) return holds_partial_values(spec) ? Layout::kOtherPlacements : Layout::kSame;
  if (!spec.attr("mesh").equal(other.attr("mesh"))) return Layout::kOtherMesh;
  const auto order = [](py::handle of) { return py::getattr(of, "shard_order", py::none()); }; // torch 2.10 and later
  const bool same = spec.attr("placements").equal(other.attr("placements")) && order(spec).equal(order(other));
  return same ? Layout::kSame : Layout::kOtherPlacements;
}

py::object redistribute(py::handle gradient, py::handle spec) {
  return gradient.attr("redistribute")(spec.attr("mesh"), spec.attr("placements"));
}

void share_spec(py::handle state, py::handle param) {
  const Local of_state = local_of(state.ptr()), of_param = local_of(param.ptr());
  if (of_state.spec == nullptr || of_param.spec == nullptr) return;
  const py::object spec = own(of_param.spec);
  if (own(of_state.spec).equal(spec)) py::setattr(state, "_spec", spec);
}

void KnownLayouts::compare(Comparison comparison) {
  const Layout layout = compare_layouts(comparison.spec, comparison.other);
  if (comparison.place >= known_.size()) return; // there are fewer parameters now
  Known& known = known_[comparison.place];
  if (!known.spec.is(comparison.spec)) known = {std::move(comparison.spec), {}, {}};
  known.layouts[comparison.operand] = layout;
  known.others[comparison.operand] = std::move(comparison.other);
}

} // namespace lerac_fast::engine
