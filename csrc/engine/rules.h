// The update rules and the optimizers that they serve: all that there is to know about them beside their arithmetic,
// once. States, hyperparameters, the dispatch of every backend and what Python sees follow. Without torch: kernels read
// it.
#pragma once

#include "engine/row.h"
#include "math/adam.h"
#include "math/adamax.h"
#include "math/lion.h"
#include "math/sgd.h"

// X(functor of csrc/math, whether state["step"] counts its steps, names of its states in the functor's order...)
#define LERAC_FAST_RULES(X)                                                                                            \
  X(Sgd, false)                                                                                                        \
  X(SgdMomentum, false, "momentum_buffer")                                                                             \
  X(Adam, true, "exp_avg", "exp_avg_sq")                                                                               \
  X(AdamAmsgrad, true, "exp_avg", "exp_avg_sq", "max_exp_avg_sq")                                                      \
  X(Adamax, true, "exp_avg", "exp_inf")                                                                                \
  X(Lion, false, "exp_avg")

// X(optimizer, its rule for the numbers `h` of a group, fields of the group that it reads beside lr, weight_decay and
// maximize...)
#define LERAC_FAST_OPTIMIZERS(X)                                                                                       \
  X(SGD, h.momentum != 0 ? Rule::kSgdMomentum : Rule::kSgd, kDifferentiable, kMomentum, kDampening, kNesterov)         \
  X(Adam, h.amsgrad ? Rule::kAdamAmsgrad : Rule::kAdam, kDifferentiable, kAmsgrad, kDecoupledWeightDecay, kEps,        \
    kBetas)                                                                                                            \
  X(Adamax, Rule::kAdamax, kDifferentiable, kEps, kBetas)                                                              \
  X(Lion, Rule::kLion, kBetas)

namespace lerac_fast::engine {

#define X(functor, ...) k##functor,
enum class Rule : uint8_t { LERAC_FAST_RULES(X) };
enum class Optimizer : uint8_t { LERAC_FAST_OPTIMIZERS(X) }; // AdamW is Adam with `decoupled_weight_decay`
#undef X

struct RuleFacts {
  const char* name; // of the functor
  int states;
  bool has_first_step; // which differs from one with states of zeros
  bool counts_steps;
  const char* state_names[kMaxStates];

  constexpr bool is_complete() const {
    for (int i = 0; i < kMaxStates; ++i) {
      if ((state_names[i] != nullptr) != (i < states)) return false; // a name for each state
    }
    return states <= kMaxStates && (states > 0 || !counts_steps);
  }
};

template <typename Functor> inline constexpr bool kHasFirstStep = requires(Functor rule) { rule.first_step; };

#define X(functor, counts_steps, ...)                                                                                  \
  {#functor, math::functor<float>::kStates, kHasFirstStep<math::functor<float>>, counts_steps, {__VA_ARGS__}},
inline constexpr RuleFacts kRuleFacts[] = {LERAC_FAST_RULES(X)};
#undef X
inline constexpr int kRules = sizeof(kRuleFacts) / sizeof(RuleFacts);

constexpr const RuleFacts& facts_of(Rule rule) { return kRuleFacts[static_cast<int>(rule)]; }

#define X(functor, ...) static_assert(facts_of(Rule::k##functor).is_complete(), #functor);
LERAC_FAST_RULES(X)
#undef X

} // namespace lerac_fast::engine
