// Whether a dictionary was written since it was last read.
#pragma once

#include <cstdint>
#include <pybind11/pybind11.h>

namespace lerac_fast::engine {

// CPython gives every dictionary a number that no other ever had, and another one whenever it is written: where it is
// the same, all keys and values are the same objects. 0: this Python has no such number (PEP 699 took it out of 3.14).
inline uint64_t version_of([[maybe_unused]] PyObject* dict) {
#if PY_VERSION_HEX < 0x030E0000
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#pragma GCC diagnostic pop
#else
  return 0;
#endif
}

} // namespace lerac_fast::engine
