// Where the objects of one parameter or param group lie in memory, so that the next step can ask for them ahead of
// time.
#pragma once

#include <ATen/core/Tensor.h>
#include <array>
#include <pybind11/pybind11.h>
#include <torch/csrc/autograd/python_variable.h>
#include <vector>

namespace lerac_fast::engine {

// A step streams the model through the caches, so the next one finds its objects in main memory: some dozens a
// parameter, most of them behind a pointer in another. Addresses that one step notes, the next one prefetches a few
// parameters ahead. They are hints and never followed: one that is out of date does no harm.
template <size_t N> class Footprint {
 public:
  void clear() { count_ = 0; }

  void note_tensor(const at::Tensor& tensor) {
    const auto* impl = tensor.unsafeGetTensorImpl();
    note(impl);
    if (impl->has_storage()) note(impl->unsafe_storage().unsafeGetStorageImpl());
  }
  void note_python_tensor(PyObject* object) {
    note(object);
    note_tensor(THPVariable_Unpack(object));
  }
  void note_dict(PyObject* dict) {
    if (dict == nullptr || !PyDict_Check(dict)) return;
    note(dict);
    note(reinterpret_cast<PyDictObject*>(dict)->ma_keys);
  }
  void note(const void* address) {
    if (count_ < addresses_.size()) addresses_[count_++] = address;
  }

  void prefetch() const {
    for (size_t i = 0; i < count_; ++i) {
      const auto* address = static_cast<const char*>(addresses_[i]);
      for (int line = 0; line < 3; ++line) __builtin_prefetch(address + 64 * line); // a TensorImpl takes about three
    }
  }

 private:
  size_t count_ = 0;
  std::array<const void*, N> addresses_;
};

// The footprints of a walk, in its order.
template <size_t N> class Footprints {
 public:
  void begin() { next_ = 0; }

  // The footprint to be noted next. Prefetches that of one a little ahead: far enough for memory to answer, near enough
  // for the caches' queues.
  Footprint<N>& next() {
    constexpr size_t kAhead = 3;
    if (next_ + kAhead < footprints_.size()) footprints_[next_ + kAhead].prefetch();
    if (next_ == footprints_.size()) footprints_.emplace_back();
    Footprint<N>& footprint = footprints_[next_++];
    footprint.clear();
    return footprint;
  }

 private:
  std::vector<Footprint<N>> footprints_;
  size_t next_ = 0;
};

} // namespace lerac_fast::engine
