#include "engine/shared_memory.h"

#include <algorithm>
#include <numeric>
#include <pybind11/pybind11.h>

namespace lerac_fast::engine {

namespace {

uint64_t mix(uint64_t hash, c10::IntArrayRef values) {
  for (const int64_t value : values) hash = (hash ^ static_cast<uint64_t>(value)) * 0x100000001b3; // FNV-1a
  return hash;
}

// Calls visit(bytes from the first element) for every element, until one returns false. Returns whether none did.
template <typename Visit> bool every_element(const at::Tensor& tensor, Visit visit) {
  const auto sizes = tensor.sizes(), strides = tensor.strides();
  const auto itemsize = static_cast<int64_t>(tensor.itemsize());
  std::vector<int64_t> index(sizes.size());
  int64_t offset = 0;
  for (int64_t left = tensor.numel(); left > 0; --left) {
    if (!visit(offset * itemsize)) return false;
    for (size_t d = sizes.size(); d-- > 0;) {
      offset += strides[d];
      if (++index[d] < sizes[d]) break;
      offset -= strides[d] * sizes[d];
      index[d] = 0;
    }
  }
  return true;
}

} // namespace

void SharedMemory::begin(size_t params) {
  regions_.reserve(params);
  noted_ = 0;
  moved_ = false;
}

void SharedMemory::note(const at::Tensor& param) {
  if (noted_ == regions_.size()) regions_.push_back({nullptr, nullptr, 0, nullptr});
  Region& known = regions_[noted_++];
  const Region region = region_of(param);
  moved_ |= !known.is_where(region);
  known = region;
}

SharedMemory::Region SharedMemory::region_of(const at::Tensor& param) {
  if (param.numel() == 0) return {nullptr, nullptr, 0, &param};
  const auto* begin = static_cast<const char*>(param.mutable_data_ptr()); // what is copied on write, is copied here
  if (param.is_non_overlapping_and_dense()) return {begin, begin + param.nbytes(), 0, &param};
  const auto sizes = param.sizes(), strides = param.strides();
  int64_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
  const uint64_t layout = mix(mix(0xcbf29ce484222325, sizes), strides) | 1;
  return {begin, begin + (last + 1) * static_cast<int64_t>(param.itemsize()), layout, &param};
}

void SharedMemory::check() {
  regions_.resize(noted_);
  if (!moved_) return;
  std::vector<const Region*> sorted;
  for (const Region& region : regions_) {
    if (region.begin != region.end) sorted.push_back(&region);
  }
  std::sort(sorted.begin(), sorted.end(), [](const Region* a, const Region* b) { return a->begin < b->begin; });
  // Of each run of regions that reach into one another, the elements are compared.
  for (size_t first = 0, last; first < sorted.size(); first = last) {
    const char* end = sorted[first]->end;
    for (last = first + 1; last < sorted.size() && sorted[last]->begin < end; ++last)
      end = std::max(end, sorted[last]->end);
    if (last - first == 1 || !any_shared(&sorted[first], &sorted[first] + (last - first), end)) continue;
    regions_.clear();
    throw pybind11::value_error("two parameters share memory and would be updated at the same time. To tie them, use "
                                "one Parameter in both places");
  }
}

// Columns of one matrix reach into one another without sharing an element.
bool SharedMemory::any_shared(const Region* const* first, const Region* const* last, const char* end) {
  const char* const begin = (*first)->begin;
  auto unit = static_cast<int64_t>((*first)->param->itemsize());
  for (auto region = first; region != last; ++region)
    unit = std::gcd(std::gcd(unit, static_cast<int64_t>((*region)->param->itemsize())), (*region)->begin - begin);
  std::vector<bool> taken((end - begin + unit - 1) / unit);
  for (auto region = first; region != last; ++region) {
    const int64_t start = (*region)->begin - begin, units = static_cast<int64_t>((*region)->param->itemsize()) / unit;
    const bool apart = every_element(*(*region)->param, [&](int64_t offset) {
      for (int64_t u = (start + offset) / unit, stop = u + units; u < stop; ++u) {
        if (taken[u]) return false;
        taken[u] = true;
      }
      return true;
    });
    if (!apart) return true;
  }
  return false;
}

} // namespace lerac_fast::engine
