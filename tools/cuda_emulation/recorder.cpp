#include "recorder.h"

#include <link.h>

#include <memory>
#include <optional>

#include "overlap.h"
#include "traffic.h"

#define LERAC_VISIBLE extern "C" __attribute__((visibility("default")))

namespace emulation {
namespace {

// What a kernel may use beside the memory of the device: constants of the program and, for shared memory and the
// numbers of the thread, what is of each thread of the CPU.
struct Program {
  uint64_t begin_constants = 0, end_constants = 0, begin_threads = 0, end_threads = 0;

  bool has(uint64_t address) const {
    return (address >= begin_constants && address < end_constants) ||
           (address >= begin_threads && address < end_threads);
  }

  static Program here() {
    Program program;
    dl_iterate_phdr([](dl_phdr_info* info, size_t, void* to) { return static_cast<Program*>(to)->read(*info) ? 1 : 0; },
                    &program);
    return program;
  }

 private:
  // Whether this code is in it.
  bool read(const dl_phdr_info& info) {
    bool is_here = false;
    *this = {};
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const auto& segment = info.dlpi_phdr[i];
      const uint64_t begin = info.dlpi_addr + segment.p_vaddr, end = begin + segment.p_memsz;
      const auto code = reinterpret_cast<uint64_t>(&Program::here);
      if (segment.p_type == PT_LOAD && code >= begin && code < end) is_here = true;
      if (segment.p_type == PT_LOAD && segment.p_flags == PF_R) begin_constants = begin, end_constants = end;
      if (segment.p_type == PT_TLS && info.dlpi_tls_data != nullptr) {
        begin_threads = reinterpret_cast<uint64_t>(info.dlpi_tls_data);
        end_threads = begin_threads + segment.p_memsz;
      }
    }
    return is_here;
  }
};
thread_local const Program program = Program::here();

bool is_in(uint64_t address, const void* begin, size_t bytes) {
  return address - reinterpret_cast<uint64_t>(begin) < bytes;
}

// Of the thread itself, or of the program.
bool is_of_thread(uint64_t address) {
  return is_in(address, block->current->memory.get(), kStackBytes) || program.has(address);
}

class Recorder : public Observer {
 public:
  Device device;
  std::vector<Traffic> launches;

  int current_device() const override { return device.current; }

  void launch_begins(const Launch& launch) override {
    device.launch(launch.stream == nullptr ? device.current * kStreams : Stream(intptr_t(launch.stream)));
    launch_ = launch;
  }

  void block_ends() override {
    if (overlap.lacks_wait()) device.fault_of_overlap("ends before it has waited for the launch before it");
    blocks_[blockIdx.x] = requests_of_block(accesses_);
    accesses_.clear();
  }

  void launch_ends() override {
    launches.push_back(traffic_of(blocks_, launch_.threads));
    launches.back().overlaps = launch_.overlaps;
    blocks_.clear();
  }

  void add(const void* instruction, uint64_t address, size_t bytes, bool writes) {
    if (is_in(address, launch_.arguments, launch_.argument_bytes)) return;
    if (overlap.is_too_early(reinterpret_cast<unsigned char*>(address), writes))
      device.fault_of_overlap("uses what the launch before it may still work on");
    if (!device.use(address, writes)) return device.use_host_memory(writes ? "written" : "read");
    for (size_t done = 0; done < bytes;) { // structs: in as few accesses as their alignment allows
      size_t piece = 16;
      while ((address + done) % piece != 0 || piece > bytes - done) piece /= 2;
      accesses_.push_back({static_cast<const char*>(instruction) + done, address + done, uint16_t(threadIdx.x),
                           uint8_t(piece), writes});
      done += piece;
    }
  }

 private:
  Launch launch_{};
  std::vector<Access> accesses_; // of the block
  std::map<unsigned, std::vector<Request>> blocks_;
};

std::unique_ptr<Recorder> recorder;
bool allocates_for_host = false;

inline void record(const void* instruction, void* at, size_t bytes, bool writes) {
  if (!in_kernel || (recorder == nullptr && !is_followed)) return;
  const Within host(false);
  const auto address = reinterpret_cast<uint64_t>(at);
  if (is_of_thread(address)) return;
  if (is_followed) overlap.follow(static_cast<unsigned char*>(at), bytes, writes);
  if (recorder != nullptr && !overlap.repeats()) recorder->add(instruction, address, bytes, writes);
}

} // namespace

Device* watched_device() { return recorder == nullptr ? nullptr : &recorder->device; }
bool allocates_on_device() { return recorder != nullptr && !allocates_for_host; }

} // namespace emulation

using emulation::recorder;

// ---- what -fsanitize=thread calls ----

#define RECORD(bytes, writes) emulation::record(__builtin_return_address(0), address, bytes, writes);
#define X(bytes)                                                                                                       \
  extern "C" void __tsan_read##bytes(void* address) { RECORD(bytes, false) }                                           \
  extern "C" void __tsan_write##bytes(void* address) { RECORD(bytes, true) }                                           \
  extern "C" void __tsan_unaligned_read##bytes(void* address) { RECORD(bytes, false) }                                 \
  extern "C" void __tsan_unaligned_write##bytes(void* address) { RECORD(bytes, true) }
X(1);
X(2);
X(4);
X(8);
X(16);
#undef X
extern "C" void __tsan_read_range(void* address, size_t bytes) { RECORD(bytes, false) }
extern "C" void __tsan_write_range(void* address, size_t bytes) { RECORD(bytes, true) }
#undef RECORD
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
extern "C" void __tsan_vptr_read(void**) {}
// Of the host, which counts launches and keeps what it has asked of a device.
extern "C" int64_t __tsan_atomic64_fetch_add(volatile int64_t* address, int64_t value, int order) {
  (void)order;
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
extern "C" uint8_t __tsan_atomic8_load(const volatile uint8_t* address, int order) {
  (void)order;
  return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}
extern "C" void __tsan_atomic8_store(volatile uint8_t* address, uint8_t value, int order) {
  (void)order;
  __atomic_store_n(address, value, __ATOMIC_SEQ_CST);
}

// ---- for Python ----

LERAC_VISIBLE void emulation_watch(bool on) {
  emulation::watch_torch(on);
  recorder = on ? std::make_unique<emulation::Recorder>() : nullptr;
  emulation::observer = recorder.get();
  emulation::allocates_for_host = false;
}
LERAC_VISIBLE void emulation_allocate_for_host(bool on) { emulation::allocates_for_host = on; }
LERAC_VISIBLE void emulation_set_device(int device) { recorder->device.current = device; }
LERAC_VISIBLE void emulation_set_device_of_tensors(int device) { recorder->device.of_tensors = device; }
LERAC_VISIBLE void emulation_set_stream(int stream) { recorder->device.select(stream); }
LERAC_VISIBLE void emulation_wait(int waiting, int working) { recorder->device.wait(waiting, working); }
LERAC_VISIBLE void emulation_synchronize() { recorder->device.synchronize(); }
LERAC_VISIBLE int64_t emulation_synchronizations() { return recorder->device.synchronizations; }
LERAC_VISIBLE void emulation_capture(bool on) {
  auto& device = recorder->device;
  device.capturing = on ? std::optional(device.current_stream_of(device.of_tensors)) : std::nullopt;
}
LERAC_VISIBLE int64_t emulation_launches() { return int64_t(recorder->launches.size()); }
LERAC_VISIBLE const emulation::Traffic* emulation_traffic(int64_t launch) {
  return &recorder->launches[size_t(launch)];
}
LERAC_VISIBLE int64_t emulation_faults() { return int64_t(recorder->device.faults.size()); }
LERAC_VISIBLE const char* emulation_fault(int64_t i) { return recorder->device.faults[size_t(i)].c_str(); }
