// Whether a dictionary was written since it was last read.
#pragma once

#include <cstdint>
#include <pybind11/pybind11.h>

namespace lerac_fast::engine {

// CPython gives every dictionary a number that no other ever had, and another one whenever it is written: where it is
// the same, all keys and values are the same objects. 0: nobody knows. This Python has no such number (PEP 699 took it
// out of 3.14), or the dictionary holds an object's attributes, and Python 3.13 does not count the object's own writes.
inline uint64_t version_of([[maybe_unused]] PyObject* object) {
#if PY_VERSION_HEX < 0x030E0000
  const auto* dict = reinterpret_cast<const PyDictObject*>(object);
  if (dict->ma_values != nullptr) return 0; // in a place of the object's
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return dict->ma_version_tag;
#pragma GCC diagnostic pop
#else
  return 0;
#endif
}

// Whether it is known that nobody has written it since it had that version.
inline bool is_unwritten(PyObject* dict, uint64_t version) { return version != 0 && version_of(dict) == version; }

} // namespace lerac_fast::engine
