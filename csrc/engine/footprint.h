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
  void clear() { count_ = large_ = 0; }

  void note_tensor(const at::Tensor& tensor) {
    const auto* impl = tensor.unsafeGetTensorImpl();
    note_large(impl);
    if (impl->has_storage()) note_large(impl->unsafe_storage().unsafeGetStorageImpl());
  }
  void note_python_tensor(PyObject* object) {
    note(object);
    note_tensor(THPVariable_Unpack(object));
  }
  void note_dict(PyObject* dict) {
    if (dict == nullptr || !PyDict_Check(dict)) return;
    note(dict);
    note_large(reinterpret_cast<PyDictObject*>(dict)->ma_keys);
  }
  // Which is another at every step.
  void note_gradient(const at::Tensor& gradient) {
    const auto* impl = gradient.unsafeGetTensorImpl();
    gradient_ = {impl, impl->unsafe_storage().unsafeGetStorageImpl()};
  }
  void note(const void* address) {
    if (count_ < addresses_.size()) addresses_[count_++] = address;
  }
  void note_large(const void* address) {
    if (count_ < addresses_.size()) large_ |= 1U << count_;
    note(address);
  }

  void prefetch() const {
    for (uint32_t i = 0; i < count_; ++i) prefetch_lines(addresses_[i], (large_ >> i) & 1 ? 3 : 1);
    for (const void* address : gradient_) prefetch_lines(address, 3);
  }

 private:
  static void prefetch_lines(const void* object, int lines) { // a TensorImpl takes about three
    for (int line = 0; line < lines; ++line) __builtin_prefetch(static_cast<const char*>(object) + 64 * line);
  }

  uint32_t count_ = 0, large_ = 0; // a bit for each
  std::array<const void*, N> addresses_;
  std::array<const void*, 2> gradient_{};
};

// The footprints of a walk, in its order.
template <size_t N> class Footprints {
 public:
  void begin() { next_ = 0; }

  // Prefetches the one a little ahead: far enough for memory to answer, near enough for the caches' queues.
  void ahead(size_t of) const {
    constexpr size_t kAhead = 3;
    if (of + kAhead < footprints_.size()) footprints_[of + kAhead].prefetch();
  }
  // The footprint to be noted next.
  Footprint<N>& next() {
    ahead(next_);
    if (next_ == footprints_.size()) footprints_.emplace_back();
    Footprint<N>& footprint = footprints_[next_++];
    footprint.clear();
    return footprint;
  }
  Footprint<N>& operator[](size_t i) { return footprints_[i]; }

 private:
  std::vector<Footprint<N>> footprints_;
  size_t next_ = 0;
};

} // namespace lerac_fast::engine
