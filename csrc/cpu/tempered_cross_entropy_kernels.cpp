// Compiled once per instruction set, with LERAC_FAST_KERNELS naming the table to define. It includes no torch and no
// standard containers; optimizer_step_kernels.cpp says why. Sums are taken in as many lanes on every instruction set,
// and always in the same order, so that all of them give the same bits.
#include "cpu/tempered_cross_entropy_kernels.h"

#include <cmath>

#include "math/elementary.h"
#include "math/exponential.h"
#include "math/float16.h"
#include "math/tempered_cross_entropy.h"
#include "math/vector.h"

namespace lerac_fast::cpu {
namespace {

using math::Compute;

// A row is read several times, from the first-level cache but for the first, in packs of 64 bytes of T.
template <typename T> using V = math::Vector<T, 64>;
template <typename T> constexpr int64_t kLanes = 64 / sizeof(T);

template <typename T, typename Element> LERAC_INLINE V<T> load_pack(const Element* from) {
  T lanes[kLanes<T>];
  for (int64_t i = 0; i < kLanes<T>; ++i) lanes[i] = math::load(from[i]);
  V<T> pack;
  memcpy(&pack, lanes, sizeof(pack));
  return pack;
}

template <typename T, typename Element> LERAC_INLINE V<T> load_part(const Element* from, int64_t count, T beyond) {
  T lanes[kLanes<T>];
  for (int64_t i = 0; i < kLanes<T>; ++i) lanes[i] = beyond;
  for (int64_t i = 0; i < count; ++i) lanes[i] = math::load(from[i]);
  V<T> pack;
  memcpy(&pack, lanes, sizeof(pack));
  return pack;
}

// Calls `work(pack, j)` for all classes of a row, a pack at a time; the last is filled up with `beyond`.
template <typename T, typename Element, typename Work>
LERAC_INLINE void for_packs(const Element* row, int64_t classes, T beyond, const Work& work) {
  int64_t j = 0;
  for (; j + kLanes<T> <= classes; j += kLanes<T>) work(load_pack<T>(row + j), j);
  if (j < classes) work(load_part<T>(row + j, classes - j, beyond), j);
}

template <typename T> LERAC_INLINE V<T> class_weights_at(const TemperedRows<T>& rows, int64_t j) {
  if (rows.class_weights == nullptr) return V<T>{} + T(1);
  const int64_t left = rows.classes - j;
  return load_part<T>(rows.class_weights + j, left < kLanes<T> ? left : kLanes<T>, T(0));
}

template <typename T, typename Element> LERAC_INLINE void store_pack(V<T> pack, Element* to, int64_t count) {
  if (count < kLanes<T>) {
    for (int64_t i = 0; i < count; ++i) math::store(to[i], T(pack[i]));
  } else if constexpr (sizeof(Element) == sizeof(T)) {
    memcpy(to, &pack, sizeof(pack));
  } else {
    using Bits = math::Vector<uint32_t, 64>;
    Bits bits;
    if constexpr (math::is_bfloat16<Element>)
      bits = math::bfloat16_of_float<Bits>(pack);
    else
      bits = math::half_of_float<Bits>(pack);
    const auto narrow = __builtin_convertvector(bits, math::Vector<uint16_t, 32>);
    memcpy(to, &narrow, sizeof(narrow));
  }
}

// Combines the lanes of a pack, always in the same order.
template <typename T, typename Combine> LERAC_INLINE T fold(V<T> pack, const Combine& combine) {
  T lanes[kLanes<T>];
  memcpy(lanes, &pack, sizeof(pack));
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  return lanes[0];
}
template <typename T> T sum_of(V<T> pack) {
  return fold<T>(pack, [](T a, T b) { return a + b; });
}
template <typename T> T largest_of(V<T> pack) {
  return fold<T>(pack, [](T a, T b) { return math::maximum(a, b); });
}

// The target of a row, read once: other threads may change it, and what is used must be what was checked.
template <typename T> int64_t target_of(const TemperedRows<T>& rows, int64_t row) {
  return __atomic_load_n(rows.targets + row, __ATOMIC_RELAXED);
}

template <typename T> bool is_class(const TemperedRows<T>& rows, int64_t target) {
  return target >= 0 && target < rows.classes;
}

template <typename Element, typename T = Compute<Element>>
BadRow<T> forward(const TemperedRows<T>& rows, T* losses, T* class_weights, TemperedStatistics<T>* statistics,
                  int64_t begin, int64_t end) {
  const int64_t classes = rows.classes;
  const T nothing = -INFINITY;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t target = target_of(rows, r);
    losses[r] = 0;
    statistics[r] = {0, 0, 0, 0};
    if (class_weights != nullptr) class_weights[r] = 0;
    if (target == rows.ignore_index) continue;
    const Element* row = static_cast<const Element*>(rows.logits) + r * classes;
    const T sigma = rows.sigma[r], inverse_sigma = 1 / sigma;
    if (!is_class(rows, target) || !(sigma > 0 && sigma < INFINITY && inverse_sigma < INFINITY))
      return {r, target, sigma};
    if (class_weights != nullptr) class_weights[r] = weight_of(rows, target);

    V<T> most = V<T>{} + nothing;
    for_packs<T>(row, classes, nothing, [&](V<T> z, int64_t) { most = ((most > z) | (most != most)) ? most : z; });
    const T largest = largest_of<T>(most); // or NaN

    V<T> exponentials{}, expected{}, weighted{};
    for_packs<T>(row, classes, nothing, [&](V<T> z, int64_t) {
      const V<T> below = z - largest;
      const V<T> e = math::exponential<T>(below * inverse_sigma);
      exponentials += e;
      expected += e == 0 ? V<T>{} : e * below; // -inf is a class that cannot be
    });
    if (rows.label_smoothing != 0)
      for_packs<T>(row, classes, largest,
                   [&](V<T> z, int64_t j) { weighted += (z - largest) * class_weights_at(rows, j); });
    math::CrossEntropySums<T> sums;
    sums.exponentials = sum_of<T>(exponentials);
    sums.expected = sum_of<T>(expected);
    sums.wanted = wanted_of(rows, target);
    sums.aimed = wanted_at_target(rows, target) * (T(math::load(row[target])) - largest);
    if (rows.label_smoothing != 0) sums.aimed += smoothing_per_class(rows) * sum_of<T>(weighted);

    const T log_of_exponentials = std::log(sums.exponentials);
    losses[r] = math::tempered_loss(sums, log_of_exponentials, inverse_sigma);
    statistics[r] = {largest, log_of_exponentials, math::tempered_loss_by_sigma(sums, inverse_sigma), 1};
  }
  return {end, 0, 0};
}

template <typename Element, typename T = Compute<Element>>
void backward(const TemperedRows<T>& rows, const TemperedStatistics<T>* statistics, const T* gradients,
              void* gradient_by_logits, int64_t begin, int64_t end) {
  const int64_t classes = rows.classes;
  for (int64_t r = begin; r < end; ++r) {
    const Element* row = static_cast<const Element*>(rows.logits) + r * classes;
    Element* out = static_cast<Element*>(gradient_by_logits) + r * classes;
    const int64_t target = target_of(rows, r);
    if (statistics[r].share == 0 || !is_class(rows, target)) { // never written beyond, whatever became of it
      memset(out, 0, size_t(classes) * sizeof(Element));       // zero in every storage type
      continue;
    }
    const T inverse_sigma = 1 / rows.sigma[r], gradient_by_sigma = gradients[r] * inverse_sigma;
    const T largest = statistics[r].largest_logit, log_of_exponentials = statistics[r].log_of_exponentials;
    const T wanted = wanted_of(rows, target), per_class = smoothing_per_class(rows);
    for_packs<T>(row, classes, largest, [&](V<T> z, int64_t j) {
      const V<T> p = math::exponential<T>((z - largest) * inverse_sigma - log_of_exponentials);
      V<T> q = V<T>{};
      if (per_class != 0) q += per_class * class_weights_at(rows, j);
      store_pack<T>(math::tempered_loss_by_logit(p, q, wanted, gradient_by_sigma), out + j, classes - j);
    });
    // The target's, with what is wanted at it alone.
    const T p = math::exponential<T>(V<T>{} +
                                     ((T(math::load(row[target])) - largest) * inverse_sigma - log_of_exponentials))[0];
    const T q = wanted_at_target(rows, target) + per_class * weight_of(rows, target);
    math::store(out[target], math::tempered_loss_by_logit(p, q, wanted, gradient_by_sigma));
  }
}

} // namespace

extern const TemperedCrossEntropyKernels LERAC_FAST_KERNELS = {
    {forward<float>, backward<float>},
    {forward<double>, backward<double>},
    {forward<math::BFloat16>, backward<math::BFloat16>},
    {forward<math::Half>, backward<math::Half>},
};

} // namespace lerac_fast::cpu
