// Finds parameters that share memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <vector>

namespace lerac_fast::engine {

// Rows are updated at the same time, so no two parameters may share an element (`head.weight.data =
// embedding.weight.data`). What was found to be apart is looked at anew where a parameter has moved or has another
// extent.
class SharedMemory {
 public:
  // Before so many parameters.
  void begin(size_t params);
  // The next parameter of this step.
  void note(const at::Tensor& param);
  // ValueError where two of the parameters noted since `begin` share memory. They must be alive.
  void check();

 private:
  struct Region {
    const char *begin, *end; // of all elements; both nullptr where there are none
    uint64_t layout;         // 0: dense; else by sizes and strides
    const at::Tensor* param;

    bool is_where(const Region& other) const {
      return begin == other.begin && end == other.end && layout == other.layout;
    }
  };
  static Region region_of(const at::Tensor& param);
  static bool any_shared(const Region* const* first, const Region* const* last, const char* end);

  std::vector<Region> regions_;
  size_t noted_ = 0;
  bool moved_ = false;
};

} // namespace lerac_fast::engine
