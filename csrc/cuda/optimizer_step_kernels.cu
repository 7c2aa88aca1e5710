// The optimizer step: the tensors of a table are divided into chunks, and every block updates one chunk.
#include "cuda/optimizer_step_kernels.h"

#include <new>
#include <type_traits>

#include "cuda/arguments.h"
#include "cuda/launch.h"
#include "cuda/vector.h"
#include "math/bias_correction.h"
#include "math/float16.h"

namespace lerac_fast::cuda {
namespace {

using engine::DeviceNumber;
using math::Compute;
using math::Hyperparameters;

constexpr int kThreads = 256;
// At least; said so that the compiler does not spill registers to make room for more.
constexpr int kBlocksPerProcessor = 2;
// A thread updates as many elements at once as fill an access of the parameter, and this many times in a chunk.
constexpr int kTimes = 4;

template <typename Element> inline constexpr int kAtOnce = kAccessBytes / sizeof(Element);
template <typename Element> inline constexpr int kChunk = kThreads * kTimes * kAtOnce<Element>;

// ---- what a kernel is handed ----

template <int kStates> struct KernelRow {
  void* operands[2 + kStates]; // parameter, gradient, states
  uint32_t first_block;
  uint16_t rule;   // index into the rules
  uint16_t beyond; // elements that its last chunk lacks
};
static_assert(kChunk<math::Half> <= 65536);

template <template <typename> class Rule, typename T, size_t kBytes> struct KernelArguments {
  using Row = KernelRow<Rule<T>::kStates>;

  uint32_t rows;
  T inverse_scale;         // known to the host, or
  const float* grad_scale; // to the device
  const float* found_inf;  // nullptr: nothing has overflown
  const Rule<T>* prepared; // of every row, by `prepare`; nullptr: they follow the rows
  Arrays<Row, Rule<T>, kBytes, 40> arrays;
};

// ---- the update ----

// How the elements of a thread lie, and how it comes to them.
enum class Access {
  kWide,            // side by side; every operand is aligned
  kWideButGradient, // side by side; every operand but the gradient is aligned, whose elements are loaded one by one
  kApart,           // one of each kThreads, of any alignment, so that a warp's accesses lie side by side
};

// kCount elements from i on. All are loaded before any is stored. With kUnscales gradients are left unscaled.
template <typename Element, typename State, bool kUnscales, Access kAccess, int kCount, typename Row, typename Rule,
          typename T>
__device__ __forceinline__ void update_elements(const Row& row, const Rule& rule, T inverse_scale, int64_t i) {
  constexpr int kStates = Rule::kStates;
  Element* const param = static_cast<Element*>(row.operands[0]) + i;
  Element* const gradient = static_cast<Element*>(row.operands[1]) + i;
  const auto load_from = [](const auto* from, T(&to)[kCount]) {
    if constexpr (kAccess == Access::kApart)
      load_apart<kThreads>(from, to);
    else
      load(from, to);
  };
  const auto store_to = [](auto* to, const T(&from)[kCount]) {
    if constexpr (kAccess == Access::kApart)
      store_apart<kThreads>(to, from);
    else
      store(to, from);
  };
  T p[kCount], g[kCount], s[engine::kMaxStates][kCount];
  load_from(param, p);
  if constexpr (kAccess == Access::kWideButGradient)
    load_apart<1>(gradient, g);
  else
    load_from(gradient, g);
#pragma unroll
  for (int k = 0; k < kStates; ++k) load_from(static_cast<const State*>(row.operands[2 + k]) + i, s[k]);
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    T states[engine::kMaxStates];
#pragma unroll
    for (int k = 0; k < kStates; ++k) states[k] = s[k][j];
    rule(p[j], g[j], states);
#pragma unroll
    for (int k = 0; k < kStates; ++k) s[k][j] = states[k];
    g[j] *= inverse_scale;
  }
  store_to(param, p);
#pragma unroll
  for (int k = 0; k < kStates; ++k) store_to(static_cast<State*>(row.operands[2 + k]) + i, s[k]);
  if constexpr (kUnscales) store_to(gradient, g);
}

template <typename Row> __device__ __forceinline__ bool are_aligned_but_gradient(const Row& row) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(row.operands[0]);
#pragma unroll
  for (int k = 2; k < int(sizeof(row.operands) / sizeof(void*)); ++k)
    bits |= reinterpret_cast<uintptr_t>(row.operands[k]);
  return bits % kAccessBytes == 0;
}

// The row of a block, by bisection.
template <typename Row> __device__ __forceinline__ uint32_t row_of(const Row* rows, uint32_t count, uint32_t block) {
  uint32_t first = 0, last = count - 1;
  while (first < last) {
    const uint32_t middle = (first + last + 1) / 2;
    if (rows[middle].first_block <= block)
      first = middle;
    else
      last = middle - 1;
  }
  return first;
}

template <template <typename> class Rule, typename Element, typename State, bool kUnscales, size_t kBytes>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    update_rows(const __grid_constant__ KernelArguments<Rule, Compute<Element>, kBytes> a) {
  using T = Compute<Element>;
  if (a.found_inf != nullptr && *a.found_inf != 0) return;
  const auto* rows = a.arrays.first();
  const uint32_t index = row_of(rows, a.rows, blockIdx.x);
  const auto& row = rows[index];
  const Rule<T> rule = a.prepared != nullptr ? a.prepared[index] : a.arrays.second(a.rows)[row.rule];
  const T inverse_scale = a.grad_scale != nullptr ? T(1 / double(*a.grad_scale)) : a.inverse_scale;

  constexpr int64_t kSize = kChunk<Element>;
  const int64_t begin = int64_t(blockIdx.x - row.first_block) * kSize;
  const bool last = index + 1 == a.rows ? blockIdx.x + 1 == gridDim.x : blockIdx.x + 1 == rows[index + 1].first_block;
  const int size = int(kSize) - (last ? row.beyond : 0);
  constexpr int kCount = kAtOnce<Element>;
  int i = int(threadIdx.x);
  const auto update_wide = [&]<Access kAccess>(std::integral_constant<Access, kAccess>) {
    for (i *= kCount; i + kCount <= size; i += kThreads * kCount)
      update_elements<Element, State, kUnscales, kAccess, kCount>(row, rule, inverse_scale, begin + i);
    i = size / kCount * kCount + int(threadIdx.x);
  };
  // Gradients are often views into a bucket, at any place in it, while nothing else is.
  const bool wide = are_aligned_but_gradient(row), wide_gradient = is_aligned(row.operands[1]);
  if (wide && wide_gradient) {
    update_wide(std::integral_constant<Access, Access::kWide>());
  } else if (wide && !kUnscales) {
    if constexpr (!kUnscales) update_wide(std::integral_constant<Access, Access::kWideButGradient>());
  } else {
    for (; i + (kCount - 1) * kThreads < size; i += kThreads * kCount)
      update_elements<Element, State, kUnscales, Access::kApart, kCount>(row, rule, inverse_scale, begin + i);
  }
  for (; i < size; i += kThreads)
    update_elements<Element, State, kUnscales, Access::kWide, 1>(row, rule, inverse_scale, begin + i);
}

// ---- numbers of the device: read, and turned into what the rules need, by one thread for each row ----

struct Numbers {
  Hyperparameters hyperparameters;
  DeviceNumber rate;
};

struct PreparedRow {
  DeviceNumber step;
  uint64_t numbers; // index
};

constexpr int kPrepareThreads = 64;

struct PrepareArguments {
  uint32_t rows;
  const float* grad_scale;
  const float* found_inf;
  Arrays<PreparedRow, Numbers, kArgumentBytes, 24 + sizeof(void*)> arrays; // a pointer is the other argument
};
static_assert(sizeof(PrepareArguments) + sizeof(void*) <= kArgumentBytes);

__device__ __forceinline__ double read(const DeviceNumber& number) {
  return number.is_double ? *static_cast<const double*>(number.address) : *static_cast<const float*>(number.address);
}

__device__ __forceinline__ void write(const DeviceNumber& number, double value) {
  if (number.is_double)
    *static_cast<double*>(number.address) = value;
  else
    *static_cast<float*>(number.address) = static_cast<float>(value);
}

template <typename Rule>
__global__ void __launch_bounds__(kPrepareThreads)
    prepare(const __grid_constant__ PrepareArguments a, Rule* __restrict__ prepared) {
  const uint32_t index = blockIdx.x * kPrepareThreads + threadIdx.x;
  if (index >= a.rows || (a.found_inf != nullptr && *a.found_inf != 0)) return;
  const PreparedRow& row = a.arrays.first()[index];
  const Numbers& numbers = a.arrays.second(a.rows)[row.numbers];
  Hyperparameters h = numbers.hyperparameters;
  if (numbers.rate.address != nullptr) h.lr = read(numbers.rate);
  if (a.grad_scale != nullptr) h.inverse_scale = 1 / double(*a.grad_scale);
  if (row.step.address != nullptr) {
    const double t = read(row.step) + 1;
    write(row.step, t);
    math::correct_bias(h, t);
  }
  prepared[index] = Rule(h);
}

// ---- launches ----

int64_t blocks_of(int64_t numel, int64_t chunk) { return (numel + chunk - 1) / chunk; }

// A launch has room for blocks of 32 bits.
constexpr int64_t kMostBlocks = (int64_t(1) << 31) - 1;

template <template <typename> class Rule, typename Element, typename State> class Launcher {
  using T = Compute<Element>;
  template <size_t kBytes> using Arguments = KernelArguments<Rule, T, kBytes>;
  template <size_t kBytes> using Fitting = decltype(Arguments<kBytes>::arrays);
  using Row = typename Arguments<kArgumentBytes>::Row;

 public:
  Launcher(const Update& update, void* workspace, void* stream)
      : update_(update), prepared_(update.is_deferred() ? static_cast<Rule<T>*>(workspace) : nullptr), stream_(stream) {
  }

  void run() {
    for (int64_t begin = 0; begin < update_.count;) {
      const auto [end, rules, blocks] = as_many_as_fit(begin);
      if (prepared_ != nullptr) run_prepare(begin, end);
      if (blocks == 0) {
        // Nothing but tensors without elements.
      } else if (Fitting<kSmallArgumentBytes>::fit(size_t(end - begin), rules)) {
        run_update<kSmallArgumentBytes>(begin, end, blocks);
      } else {
        run_update<kArgumentBytes>(begin, end, blocks);
      }
      begin = end;
    }
  }

 private:
  struct Batch {
    int64_t end;
    size_t rules;
    int64_t blocks;
  };

  int64_t blocks_of_row(int64_t r) const { return blocks_of(update_.rows[r].numel, kChunk<Element>); }

  // Whether a row needs a rule that those before it, from `begin` on, did not bring.
  bool brings_rule(int64_t begin, int64_t r) const {
    return prepared_ == nullptr &&
           (r == begin || update_.rows[r].hyperparameters != update_.rows[r - 1].hyperparameters);
  }

  Batch as_many_as_fit(int64_t begin) const {
    Batch batch{begin, 0, 0};
    for (int64_t r = begin; r < update_.count; ++r) {
      const size_t rules = batch.rules + brings_rule(begin, r);
      const int64_t blocks = batch.blocks + blocks_of_row(r);
      const bool fits = Fitting<kArgumentBytes>::fit(size_t(r + 1 - begin), rules);
      if (r > begin && (!fits || blocks > kMostBlocks)) break;
      batch = {r + 1, rules, blocks};
    }
    return batch;
  }

  template <size_t kBytes> void run_update(int64_t begin, int64_t end, int64_t blocks) {
    static_assert(sizeof(Arguments<kBytes>) <= kBytes);
    Arguments<kBytes> a;
    a.rows = uint32_t(end - begin);
    a.inverse_scale = T(update_.hyperparameters[update_.rows[begin].hyperparameters].inverse_scale);
    a.grad_scale = update_.grad_scale;
    a.found_inf = update_.found_inf;
    a.prepared = prepared_ == nullptr ? nullptr : prepared_ + begin;
    auto* rules = a.arrays.second(a.rows);
    uint16_t rule = 0;
    uint32_t block = 0;
    for (int64_t r = begin; r < end; ++r) {
      const engine::Row& from = update_.rows[r];
      if (brings_rule(begin, r)) {
        if (r > begin) ++rule;
        new (rules + rule) Rule<T>(update_.hyperparameters[from.hyperparameters]);
      }
      Row& to = a.arrays.first()[r - begin];
      to.operands[0] = from.param;
      to.operands[1] = from.gradient;
      for (int k = 0; k < Rule<T>::kStates; ++k) to.operands[2 + k] = from.states[k];
      to.first_block = block;
      to.rule = rule;
      to.beyond = uint16_t(blocks_of_row(r) * kChunk<Element> - from.numel);
      block += uint32_t(blocks_of_row(r));
    }
    if (a.grad_scale != nullptr || a.inverse_scale != 1)
      launch(update_rows<Rule, Element, State, true, kBytes>, blocks, kThreads, stream_, a);
    else
      launch(update_rows<Rule, Element, State, false, kBytes>, blocks, kThreads, stream_, a);
  }

  void run_prepare(int64_t begin, int64_t end) {
    while (begin < end) {
      PrepareArguments a;
      a.grad_scale = update_.grad_scale;
      a.found_inf = update_.found_inf;
      // Rows and numbers grow from both ends; how many rows there are is known only afterwards.
      int64_t last = begin;
      size_t numbers = 0;
      for (; last < end; ++last) {
        const bool brings =
            last == begin || update_.rows[last].hyperparameters != update_.rows[last - 1].hyperparameters;
        if (!a.arrays.fit(size_t(last + 1 - begin), numbers + brings)) break;
        numbers += brings;
      }
      a.rows = uint32_t(last - begin);
      const int32_t first = update_.rows[begin].hyperparameters;
      for (int64_t r = begin; r < last; ++r) {
        const engine::Row& from = update_.rows[r];
        a.arrays.first()[r - begin] = {from.step, uint64_t(from.hyperparameters - first)};
        a.arrays.second(a.rows)[from.hyperparameters - first] = {update_.hyperparameters[from.hyperparameters],
                                                                 update_.rates[from.hyperparameters]};
      }
      launch(prepare<Rule<T>>, blocks_of(last - begin, kPrepareThreads), kPrepareThreads, stream_, a,
             prepared_ + begin);
      begin = last;
    }
  }

  const Update& update_;
  Rule<T>* prepared_;
  void* stream_;
};

// Calls `work` with the launcher for the update's rule and storage types.
template <template <typename> class Rule, typename Work> void with_elements(engine::Elements elements, Work&& work) {
  using engine::Elements;
  switch (elements) {
  case Elements::kFloat:
    return work(std::type_identity<Launcher<Rule, float, float>>());
  case Elements::kDouble:
    return work(std::type_identity<Launcher<Rule, double, double>>());
  case Elements::kBFloat16:
    return work(std::type_identity<Launcher<Rule, math::BFloat16, math::BFloat16>>());
  case Elements::kHalf:
    return work(std::type_identity<Launcher<Rule, math::Half, math::Half>>());
  case Elements::kBFloat16FloatStates:
    return work(std::type_identity<Launcher<Rule, math::BFloat16, float>>());
  case Elements::kHalfFloatStates:
    return work(std::type_identity<Launcher<Rule, math::Half, float>>());
  }
}

} // namespace

bool Update::is_deferred() const {
  if (grad_scale != nullptr || found_inf != nullptr) return true;
  for (int64_t r = 0; r < count; ++r) {
    if (rows[r].step.address != nullptr || rates[rows[r].hyperparameters].address != nullptr) return true;
  }
  return false;
}

// Rules are small structs of a few numbers each.
size_t workspace_of(const Update& update) {
#define X(rule, ...) sizeof(math::rule<double>),
  constexpr size_t kSizes[] = {LERAC_FAST_RULES(X)};
#undef X
  return update.is_deferred() ? size_t(update.count) * kSizes[int(update.rule)] : 0;
}

void launch_update(const Update& update, void* workspace, void* stream) {
  const auto run = [&](auto launcher) { typename decltype(launcher)::type(update, workspace, stream).run(); };
  switch (update.rule) {
#define X(name, ...)                                                                                                   \
  case engine::Rule::k##name:                                                                                          \
    return with_elements<math::name>(update.elements, run);
    LERAC_FAST_RULES(X)
#undef X
  }
}

} // namespace lerac_fast::cuda
