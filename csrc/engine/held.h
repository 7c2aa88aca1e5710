// Keeps what a plan borrows alive while the GIL is released.
#pragma once

#include "engine/plan.h"

namespace lerac_fast::engine {

// By the Python objects of parameters and states: taking another C++ reference to a tensor that Python owns is slow.
// To be given up after all else, as what is freed then may run Python code.
class Held {
 public:
  explicit Held(const Plan& plan) : plan_(plan) {
    for (const Source& source : plan_.sources) source.every_written([](PyObject* object) { Py_INCREF(object); });
  }
  ~Held() {
    for (const Source& source : plan_.sources) source.every_written([](PyObject* object) { Py_DECREF(object); });
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  const Plan& plan_;
};

} // namespace lerac_fast::engine
