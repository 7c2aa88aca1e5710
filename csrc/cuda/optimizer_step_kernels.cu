// The optimizer step: the tensors of a table are divided into chunks, and every block updates one chunk.
#include "cuda/optimizer_step_kernels.h"

#include <new>
#include <type_traits>

#include "cuda/arguments.h"
#include "cuda/launch.h"
#include "cuda/overlap.h"
#include "cuda/prepare.h"
#include "cuda/vector.h"
#include "math/float16.h"

namespace lerac_fast::cuda {
namespace {

using math::Compute;

constexpr int kThreads = 256;
// At least; said so that the compiler does not spill registers to make room for more.
constexpr int kBlocksPerProcessor = 2;
// A thread updates as many elements at once as fill an access of the parameter, and this many times in a chunk.
constexpr int kTimes = 4;

template <typename Element> inline constexpr int kAtOnce = kAccessBytes / sizeof(Element);
template <typename Element> inline constexpr int kChunk = kThreads * kTimes * kAtOnce<Element>;

// ---- what a kernel is handed ----

// Of a row: which blocks update it. Apart from its operands, so that few lines of the constant cache hold those that
// bisection looks at.
struct Place {
  uint32_t first_block;
  uint16_t rule;   // index into the rules
  uint16_t beyond; // elements that its last chunk lacks
};

template <int kStates> struct Operands {
  void* at[2 + kStates]; // parameter, gradient, states
};
static_assert(kChunk<math::Half> <= 65536);

template <template <typename> class Rule, typename T, size_t kBytes> struct KernelArguments {
  uint32_t rows;
  T inverse_scale;         // known to the host, or
  const float* grad_scale; // to the device
  const float* found_inf;  // nullptr: nothing has overflown
  const Rule<T>* prepared; // of every row, by `prepare`; nullptr: they follow the rows
  Arrays<Place, Operands<Rule<T>::kStates>, Rule<T>, kBytes, 40> arrays;
};

// ---- the update ----

// How the elements of a thread lie, and how it comes to them.
enum class Access {
  kWide,            // side by side; every operand is aligned
  kWideButGradient, // side by side; every operand but the gradient is aligned, whose elements are loaded one by one
  kApart,           // one of each kThreads, of any alignment, so that a warp's accesses lie side by side
};

// kCount elements from i on. All are loaded before any is stored. With kUnscales gradients are left unscaled.
template <typename Element, typename State, bool kUnscales, Access kAccess, int kCount, typename Rule, typename T>
__device__ __forceinline__ void update_elements(const Operands<Rule::kStates>& operands, const Rule& rule,
                                                T inverse_scale, int64_t i) {
  constexpr int kStates = Rule::kStates;
  Element* const param = static_cast<Element*>(operands.at[0]) + i;
  Element* const gradient = static_cast<Element*>(operands.at[1]) + i;
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
  for (int k = 0; k < kStates; ++k) load_from(static_cast<const State*>(operands.at[2 + k]) + i, s[k]);
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
  for (int k = 0; k < kStates; ++k) store_to(static_cast<State*>(operands.at[2 + k]) + i, s[k]);
  if constexpr (kUnscales) store_to(gradient, g);
}

template <int kStates> __device__ __forceinline__ bool are_aligned_but_gradient(const Operands<kStates>& operands) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(operands.at[0]);
#pragma unroll
  for (int k = 2; k < 2 + kStates; ++k) bits |= reinterpret_cast<uintptr_t>(operands.at[k]);
  return bits % kAccessBytes == 0;
}

// The row of a block, by bisection.
__device__ __forceinline__ uint32_t row_of(const Place* places, uint32_t rows, uint32_t block) {
  uint32_t first = 0, last = rows - 1;
  while (first < last) {
    const uint32_t middle = (first + last + 1) / 2;
    if (places[middle].first_block <= block)
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
  const float found_inf = a.found_inf != nullptr ? *a.found_inf : 0;
  const Place* places = a.arrays.first();
  const uint32_t index = row_of(places, a.rows, blockIdx.x);
  const Place place = places[index];
  const auto& operands = a.arrays.second(a.rows)[index];
  if (a.prepared != nullptr) wait_for_previous(); // `prepare`; all above is older than that
  if (found_inf != 0) return;
  const Rule<T> rule = a.prepared != nullptr ? a.prepared[index] : a.arrays.third(a.rows)[place.rule];
  const T inverse_scale = a.grad_scale != nullptr ? T(1 / double(*a.grad_scale)) : a.inverse_scale;

  constexpr int64_t kSize = kChunk<Element>;
  const int64_t begin = int64_t(blockIdx.x - place.first_block) * kSize;
  const bool last = index + 1 == a.rows ? blockIdx.x + 1 == gridDim.x : blockIdx.x + 1 == places[index + 1].first_block;
  const int size = int(kSize) - (last ? place.beyond : 0);
  constexpr int kCount = kAtOnce<Element>;
  int i = int(threadIdx.x);
  const auto update_wide = [&]<Access kAccess>(std::integral_constant<Access, kAccess>) {
    for (i *= kCount; i + kCount <= size; i += kThreads * kCount)
      update_elements<Element, State, kUnscales, kAccess, kCount>(operands, rule, inverse_scale, begin + i);
    i = size / kCount * kCount + int(threadIdx.x);
  };
  // Gradients are often views into a bucket, at any place in it, while nothing else is.
  const bool wide = are_aligned_but_gradient(operands), wide_gradient = is_aligned(operands.at[1]);
  if (wide && wide_gradient) {
    update_wide(std::integral_constant<Access, Access::kWide>());
  } else if (wide && !kUnscales) {
    if constexpr (!kUnscales) update_wide(std::integral_constant<Access, Access::kWideButGradient>());
  } else {
    for (; i + (kCount - 1) * kThreads < size; i += kThreads * kCount)
      update_elements<Element, State, kUnscales, Access::kApart, kCount>(operands, rule, inverse_scale, begin + i);
  }
  for (; i < size; i += kThreads)
    update_elements<Element, State, kUnscales, Access::kWide, 1>(operands, rule, inverse_scale, begin + i);
}

// ---- launches ----

// A launch has room for blocks of 32 bits.
constexpr int64_t kMostBlocks = (int64_t(1) << 31) - 1;

template <template <typename> class Rule, typename Element, typename State> class Launcher {
  using T = Compute<Element>;
  template <size_t kBytes> using Arguments = KernelArguments<Rule, T, kBytes>;
  template <size_t kBytes> using Fitting = decltype(Arguments<kBytes>::arrays);

 public:
  Launcher(const Update& update, void* workspace, void* stream)
      : update_(update), prepared_(update.is_deferred() ? static_cast<Rule<T>*>(workspace) : nullptr), stream_(stream) {
  }

  void run() {
    for (int64_t begin = 0; begin < update_.count;) {
      const auto [end, rules, blocks] = as_many_as_fit(begin);
      if (prepared_ != nullptr) prepare_rows(update_, begin, end, prepared_, stream_);
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

  int64_t blocks_of_row(int64_t r) const { return (update_.numel(r) + kChunk<Element> - 1) / kChunk<Element>; }

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
    a.inverse_scale = T(update_.numbers(begin).inverse_scale);
    a.grad_scale = update_.grad_scale;
    a.found_inf = update_.found_inf;
    a.prepared = prepared_ == nullptr ? nullptr : prepared_ + begin;
    auto* rules = a.arrays.third(a.rows);
    uint16_t rule = 0;
    uint32_t block = 0;
    for (int64_t r = begin; r < end; ++r) {
      const engine::Row& from = update_.rows[r];
      if (brings_rule(begin, r)) {
        if (r > begin) ++rule;
        new (rules + rule) Rule<T>(update_.numbers(r));
      }
      a.arrays.first()[r - begin] = {block, rule, uint16_t(blocks_of_row(r) * kChunk<Element> - update_.numel(r))};
      auto& operands = a.arrays.second(a.rows)[r - begin];
      operands.at[0] = from.param;
      operands.at[1] = from.gradient;
      for (int k = 0; k < Rule<T>::kStates; ++k) operands.at[2 + k] = from.states[k];
      block += uint32_t(blocks_of_row(r));
    }
    const bool unscales = a.grad_scale != nullptr || a.inverse_scale != 1;
    const auto kernel =
        unscales ? update_rows<Rule, Element, State, true, kBytes> : update_rows<Rule, Element, State, false, kBytes>;
    if (prepared_ != nullptr) // then `prepare` has just been launched
      launch_overlapping(kernel, blocks, kThreads, stream_, a);
    else
      launch(kernel, blocks, kThreads, stream_, a);
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
    if (!rows[r].step.is_known_to_host() || !rates[rows[r].hyperparameters].is_known_to_host()) return true;
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

engine::DriverVersions driver_versions() {
  engine::DriverVersions versions{.needed = kArgumentsNeedDriver};
  if (cudaDriverGetVersion(&versions.present) != cudaSuccess) return {};
  return versions;
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
