#include "device.h"

#include <algorithm>

namespace emulation {
namespace {

constexpr size_t kMostFaults = 20; // one mistake has many victims

std::string name(Stream stream) {
  return "stream " + std::to_string(stream % kStreams) + " of device " + std::to_string(stream / kStreams);
}

} // namespace

void Device::fault(const std::string& what) {
  if (faults.size() < kMostFaults && std::find(faults.begin(), faults.end(), what) == faults.end())
    faults.push_back(what);
}

Stream Device::current_stream_of(int device) const {
  const auto found = current_streams_.find(device);
  return found == current_streams_.end() ? device * kStreams : found->second;
}

void Device::select(Stream stream) { current_streams_[stream / kStreams] = stream; }

// Torch fills what it allocates on the current stream, or something that follows there does.
void Device::allocate(const void* address, size_t bytes) {
  const auto first = reinterpret_cast<uint64_t>(address);
  const Stream home = current_stream_of(of_tensors);
  memory_[first] = {first + bytes, of_tensors, home, false, {{home, ++times_[home], true}}};
}

// Its place is given to what comes next on the stream where it was allocated.
void Device::release(const void* address) {
  const auto found = memory_.find(reinterpret_cast<uint64_t>(address));
  if (found == memory_.end()) return;
  Memory& memory = found->second;
  memory.released = true;
  for (const Use& use : memory.uses) {
    if (!has_waited(memory.home, use))
      fault("memory of " + name(memory.home) + " is freed while " + name(use.stream) + " may still work on it");
  }
}

std::map<uint64_t, Device::Memory>::iterator Device::find(uint64_t address) {
  auto found = memory_.upper_bound(address);
  if (found == memory_.begin()) return memory_.end();
  --found;
  return address < found->second.end ? found : memory_.end();
}

bool Device::has(const void* address) const {
  const auto found = const_cast<Device*>(this)->find(reinterpret_cast<uint64_t>(address));
  return found != memory_.end() && !found->second.released;
}

void Device::launch(Stream stream) {
  if (stream / kStreams != current)
    fault("a launch on " + name(stream) + " while device " + std::to_string(current) + " is current");
  if (capturing && stream != *capturing)
    fault("a launch on " + name(stream) + " while " + name(*capturing) + " captures: it is not in the graph");
  working_ = stream;
  ++times_[stream];
}

void Device::work_here() {
  working_ = current_stream_of(of_tensors);
  ++times_[working_];
}

bool Device::has_waited(Stream waiting, const Use& use) const {
  if (waiting == use.stream) return true;
  for (const Stream by : {waiting, kHost}) { // what the host has waited for comes before all that it asks for later
    const auto found = waited_.find({by, use.stream});
    if (found != waited_.end() && found->second >= use.time) return true;
  }
  return false;
}

bool Device::use(uint64_t address, bool writes) {
  const auto found = find(address);
  if (found == memory_.end()) return false;
  Memory& memory = found->second;
  if (memory.released) fault(name(working_) + " uses memory that was freed");
  if (memory.device != working_ / kStreams)
    fault(name(working_) + " uses memory of device " + std::to_string(memory.device));
  Use* last = nullptr;
  for (Use& use : memory.uses) {
    if (use.stream == working_)
      last = &use;
    else if ((writes || use.writes) && !has_waited(working_, use))
      fault(name(working_) + " uses what " + name(use.stream) + " may still work on");
  }
  if (last == nullptr) last = &memory.uses.emplace_back(Use{working_, 0, false});
  *last = {working_, times_[working_], last->writes || writes};
  return true;
}

void Device::use_host_memory(const char* how) {
  fault("a kernel on " + name(working_) + " uses memory of the host, which is " + how);
}

void Device::fault_of_overlap(const char* what) { fault("a kernel on " + name(working_) + " " + what); }

void Device::wait(Stream waiting, Stream working) {
  for (const auto& [stream, time] : times_) {
    const auto found = waited_.find({working, stream});
    const uint64_t known = stream == working ? time : found == waited_.end() ? 0 : found->second;
    uint64_t& waited = waited_[{waiting, stream}];
    waited = std::max(waited, known);
  }
}

void Device::synchronize() {
  if (capturing) fault("the host waits for the device while " + name(*capturing) + " captures");
  ++synchronizations;
  for (const auto& [stream, time] : times_) waited_[{kHost, stream}] = time;
}

} // namespace emulation
