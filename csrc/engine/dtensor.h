// DTensors, which torch.distributed spreads over processes: a step updates what lies in this one.
#pragma once

#include <array>
#include <pybind11/pybind11.h>
#include <vector>

#include "engine/row.h"

namespace lerac_fast::engine {

// torch's class, once somebody has imported it, and where its instances keep what a step reads.
struct DTensorClass {
  PyTypeObject* type = nullptr;
  Py_ssize_t local_tensor = 0, spec = 0;
};
inline DTensorClass dtensor_class;

// Finds the class if torch.distributed.tensor was imported; it is never imported here. To be called before a walk.
void find_dtensor_class();

// What a tensor has in this process: itself, or the local tensor of a DTensor. Borrowed.
struct Local {
  PyObject* tensor;
  PyObject* spec = nullptr; // how a DTensor lies on which mesh of processes; nullptr where it is none
};

inline Local local_of(PyObject* object) {
  if (Py_TYPE(object) != dtensor_class.type) return {object};
  const auto read = [&](Py_ssize_t offset) {
    return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + offset);
  };
  PyObject *const local = read(dtensor_class.local_tensor), *const spec = read(dtensor_class.spec);
  return local == nullptr || spec == nullptr ? Local{object} : Local{local, spec}; // one that was never initialized
}

// How the layout of a gradient or state over processes stands to its parameter's.
enum class Layout : uint8_t { kUnknown, kSame, kOtherPlacements, kOtherMesh };

// Compares two specs. One with itself: kSame, or kOtherPlacements where its values are partial sums. Runs Python code.
Layout compare_layouts(pybind11::handle spec, pybind11::handle other);

// A gradient in the layout of a spec, as torch.distributed has it: its processes exchange what they need. Runs Python
// code.
pybind11::object redistribute(pybind11::handle gradient, pybind11::handle spec);

// Gives a state that lies as its parameter does the very same spec, which takes no comparison. Runs Python code.
void share_spec(pybind11::handle state, pybind11::handle param);

// A comparison that a walk needs: of an operand of the DTensor at a place in the walk.
struct Comparison {
  size_t place;
  size_t operand;
  pybind11::object spec, other;
};

// What comparing layouts has said. Comparing takes Python code, and the same specs come again at every step: they are
// owned here, so that their addresses stay theirs, until others come to their place.
class KnownLayouts {
 public:
  enum : size_t { kParameter, kGradient, kFirstState };

  void begin() {
    known_.resize(walked_); // not at the end of a walk: what is freed here may run Python code
    walked_ = 0;
  }
  // The place of the next parameter that is a DTensor.
  size_t next() {
    if (walked_ == known_.size()) known_.emplace_back();
    return walked_++;
  }

  Layout of(size_t place, size_t operand, PyObject* spec, PyObject* other) const {
    if (spec == other && operand != kParameter) return Layout::kSame;
    const Known& known = known_[place];
    if (known.spec.ptr() != spec) return Layout::kUnknown;
    return spec == other || known.others[operand].ptr() == other ? known.layouts[operand] : Layout::kUnknown;
  }
  void compare(Comparison comparison);

 private:
  static constexpr size_t kOperands = kFirstState + kMaxStates;
  struct Known { // of a parameter with this spec
    pybind11::object spec;
    std::array<Layout, kOperands> layouts{};
    std::array<pybind11::object, kOperands> others; // what was compared with it
  };
  std::vector<Known> known_;
  size_t walked_ = 0;
};

} // namespace lerac_fast::engine
