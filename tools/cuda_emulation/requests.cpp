#include "requests.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

namespace emulation {
namespace {

constexpr unsigned kWarp = 32;

// An access with its place among those of its thread: of all of them, and of those by the same instruction.
struct Placed {
  const Access* access;
  unsigned warp;
  uint32_t number, turn;

  auto request() const { return std::tuple(warp, access->instruction, turn); }
};

std::vector<Placed> places(const std::vector<Access>& accesses) {
  std::unordered_map<uint16_t, uint32_t> numbers;
  std::map<std::pair<uint16_t, const void*>, uint32_t> turns;
  std::vector<Placed> placed;
  placed.reserve(accesses.size());
  for (const Access& access : accesses)
    placed.push_back(
        {&access, access.thread / kWarp, numbers[access.thread]++, turns[{access.thread, access.instruction}]++});
  return placed;
}

uint64_t distinct_bytes(std::vector<std::pair<uint64_t, uint64_t>>& ranges) {
  std::sort(ranges.begin(), ranges.end());
  uint64_t bytes = 0, end = 0;
  for (const auto& [first, last] : ranges) {
    if (last > end) bytes += last - std::max(first, end);
    end = std::max(end, last);
  }
  return bytes;
}

Request request_of(const Placed* begin, const Placed* end) {
  Request request{begin->access->bytes, begin->access->writes, 0, {}};
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const Placed* placed = begin; placed != end; ++placed) {
    const uint64_t first = placed->access->address, last = first + placed->access->bytes;
    ranges.emplace_back(first, last);
    for (uint64_t sector = first / kSectorBytes; sector * kSectorBytes < last; ++sector)
      request.sectors.push_back(sector);
  }
  std::sort(request.sectors.begin(), request.sectors.end());
  request.sectors.erase(std::unique(request.sectors.begin(), request.sectors.end()), request.sectors.end());
  request.fewest = (distinct_bytes(ranges) + kSectorBytes - 1) / kSectorBytes;
  return request;
}

} // namespace

std::vector<Request> requests_of_block(const std::vector<Access>& accesses) {
  std::vector<Placed> placed = places(accesses);
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) { return a.request() < b.request(); });

  std::vector<std::tuple<uint32_t, unsigned, Request>> found; // when, of which warp
  for (size_t begin = 0, end = 0; begin < placed.size(); begin = end) {
    uint32_t number = placed[begin].number;
    for (; end < placed.size() && placed[end].request() == placed[begin].request(); ++end)
      number = std::min(number, placed[end].number);
    found.emplace_back(number, placed[begin].warp, request_of(&placed[begin], placed.data() + end));
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tie(std::get<0>(a), std::get<1>(a)) < std::tie(std::get<0>(b), std::get<1>(b));
  });
  std::vector<Request> requests;
  requests.reserve(found.size());
  for (auto& [number, warp, request] : found) requests.push_back(std::move(request));
  return requests;
}

} // namespace emulation
