#include "traffic.h"

#include <bit>
#include <cstddef>
#include <list>
#include <unordered_map>

namespace emulation {
namespace {

class Cache {
 public:
  int64_t bytes_read = 0, bytes_written = 0;

  // A sector that is written is not read before: caches keep track of single bytes.
  void use(uint64_t sector, bool writes) {
    if (const auto found = places_.find(sector); found != places_.end()) {
      found->second->is_written |= writes;
      sectors_.splice(sectors_.begin(), sectors_, found->second);
      return;
    }
    if (!writes) bytes_read += kSectorBytes;
    sectors_.push_front({sector, writes});
    places_[sector] = sectors_.begin();
    if (sectors_.size() * kSectorBytes > kCacheBytes) drop_last();
  }

  void write_back() {
    while (!sectors_.empty()) drop_last();
  }

 private:
  struct Sector {
    uint64_t number;
    bool is_written;
  };

  void drop_last() {
    if (sectors_.back().is_written) bytes_written += kSectorBytes;
    places_.erase(sectors_.back().number);
    sectors_.pop_back();
  }

  std::list<Sector> sectors_; // the last used first
  std::unordered_map<uint64_t, std::list<Sector>::iterator> places_;
};

struct Progress {
  const std::vector<Request>* requests;
  size_t next = 0;
};

} // namespace

Traffic traffic_of(const std::map<unsigned, std::vector<Request>>& blocks, unsigned threads) {
  Traffic traffic{};
  traffic.blocks = int64_t(blocks.size());
  traffic.threads = threads;
  for (const auto& [index, requests] : blocks) {
    for (const Request& request : requests) {
      Counts& counts = (request.writes ? traffic.writes : traffic.reads)[std::countr_zero(request.bytes)];
      ++counts.requests;
      counts.sectors += int64_t(request.sectors.size());
      counts.fewest += int64_t(request.fewest);
    }
  }

  Cache cache;
  std::list<Progress> in_flight;
  auto next = blocks.begin();
  while (next != blocks.end() || !in_flight.empty()) {
    while (next != blocks.end() && (in_flight.size() + 1) * threads <= kThreadsInFlight)
      in_flight.push_back({&(next++)->second});
    for (auto block = in_flight.begin(); block != in_flight.end();) {
      if (block->next == block->requests->size()) {
        block = in_flight.erase(block);
        continue;
      }
      const Request& request = (*block->requests)[block->next++];
      for (const uint64_t sector : request.sectors) cache.use(sector, request.writes);
      ++block;
    }
  }
  cache.write_back();
  traffic.bytes_read = cache.bytes_read;
  traffic.bytes_written = cache.bytes_written;
  return traffic;
}

} // namespace emulation
