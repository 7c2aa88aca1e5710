// Compiled once per instruction set, with LERAC_FAST_KERNELS naming the table to define. It includes no torch and no
// standard containers: an inline function of theirs, compiled here for AVX-512, could be the one that the linker keeps.
#include "cpu/optimizer_step_kernels.h"

#include "math/float16.h"

namespace lerac_fast::cpu {
namespace {

using engine::Row;
using math::Hyperparameters;

// Elements whose gradients are unscaled together: small enough to be still in the first-level cache.
constexpr int64_t kUnscaleBlock = 2048;

template <typename T> T* at(void* pointer, int64_t offset) { return static_cast<T*>(pointer) + offset; }

template <template <typename> class Rule, typename Element, typename State>
void update_block(const Row& row, const Rule<math::Compute<Element>>& rule, int64_t begin, int64_t end) {
  using T = math::Compute<Element>;
  constexpr int kStates = Rule<T>::kStates;
  Element* __restrict param = at<Element>(row.param, begin);
  const Element* __restrict gradient = at<Element>(row.gradient, begin);
  State* __restrict state0 = kStates > 0 ? at<State>(row.states[0], begin) : nullptr;
  State* __restrict state1 = kStates > 1 ? at<State>(row.states[1], begin) : nullptr;
  State* __restrict state2 = kStates > 2 ? at<State>(row.states[2], begin) : nullptr;
  const int64_t count = end - begin;
  for (int64_t i = 0; i < count; ++i) {
    T value = math::load(param[i]);
    T states[engine::kMaxStates];
    if constexpr (kStates > 0) states[0] = math::load(state0[i]);
    if constexpr (kStates > 1) states[1] = math::load(state1[i]);
    if constexpr (kStates > 2) states[2] = math::load(state2[i]);
    rule(value, math::load(gradient[i]), states);
    math::store(param[i], value);
    if constexpr (kStates > 0) math::store(state0[i], states[0]);
    if constexpr (kStates > 1) math::store(state1[i], states[1]);
    if constexpr (kStates > 2) math::store(state2[i], states[2]);
  }
}

template <typename Element>
void unscale_block(const Row& row, math::Compute<Element> inverse_scale, int64_t begin, int64_t end) {
  Element* gradient = at<Element>(row.gradient, 0);
  for (int64_t i = begin; i < end; ++i) math::store(gradient[i], math::load(gradient[i]) * inverse_scale);
}

template <template <typename> class Rule, typename Element, typename State>
void update_range(const Row& row, const Hyperparameters& h, int64_t begin, int64_t end) {
  using T = math::Compute<Element>;
  const Rule<T> rule(h);
  if (h.inverse_scale == 1) return update_block<Rule, Element, State>(row, rule, begin, end);
  // The update takes the unscaled gradient unrounded; like torch, the step leaves it unscaled in `grad`.
  for (int64_t block = begin; block < end; block += kUnscaleBlock) {
    const int64_t block_end = block + kUnscaleBlock < end ? block + kUnscaleBlock : end;
    update_block<Rule, Element, State>(row, rule, block, block_end);
    unscale_block<Element>(row, T(h.inverse_scale), block, block_end);
  }
}

} // namespace

// In the order of engine::Elements.
#define X(rule, ...)                                                                                                   \
  {update_range<math::rule, float, float>,                                                                             \
   update_range<math::rule, double, double>,                                                                           \
   update_range<math::rule, math::BFloat16, math::BFloat16>,                                                           \
   update_range<math::rule, math::Half, math::Half>,                                                                   \
   update_range<math::rule, math::BFloat16, float>,                                                                    \
   update_range<math::rule, math::Half, float>},
extern const OptimizerStepKernels LERAC_FAST_KERNELS = {{LERAC_FAST_RULES(X)}};
#undef X

} // namespace lerac_fast::cpu
