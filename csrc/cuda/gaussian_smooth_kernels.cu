#include "cuda/gaussian_smooth_kernels.h"

#include <algorithm>
#include <type_traits>

#include "cuda/launch.h"
#include "cuda/vector.h"
#include "math/float16.h"
#include "math/gaussian.h"

namespace lerac_fast::cuda {
namespace {

using math::Compute;
using ops::Plane;
using ops::Sweep;

constexpr int kThreads = 256;
// A thread smooths as many rows, and reads one more on either side.
constexpr int64_t kStrip = 8;

int64_t pieces(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

bool are_aligned(const void* source, size_t source_bytes, const void* target, size_t target_bytes) {
  return reinterpret_cast<uintptr_t>(source) % source_bytes == 0 &&
         reinterpret_cast<uintptr_t>(target) % target_bytes == 0;
}

template <int kCount, typename T> __device__ void clear(T (&x)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) x[i] = 0;
}

// What lies beyond a border is zero: chosen, not multiplied, as 0 x NaN is NaN.
template <int kCount, typename Element, typename T>
__device__ void load_if(bool exists, const Element* from, T (&to)[kCount]) {
  if (exists)
    load<kCount>(from, to);
  else
    clear(to);
}

// ---- the nearest neighbours, in two dimensions ----

template <typename T> struct Nearest {
  Plane plane;
  int64_t strips, strip;              // of a plane, and the rows of one
  int64_t units;                      // one for a thread
  T across_rows[2], along_columns[2]; // weights: 1 and 0 where there is one row or column, not to be smoothed
};

// kCount elements of a row from `at` on, smoothed along the columns. kAdjacent: a column is one element, so that most
// neighbours are loaded with the elements themselves; else whole vectors lie within a column.
template <bool kAdjacent, int kCount, typename Element, typename T>
__device__ void smooth_columns(const Element* row, int64_t at, const Nearest<T>& how, T (&out)[kCount]) {
  T center[kCount], before[kCount], after[kCount];
  const int64_t size = how.plane.columns * how.plane.inner, inner = how.plane.inner;
  load<kCount>(row + at, center);
  if constexpr (kAdjacent) {
    const T first = at > 0 ? math::load(row[at - 1]) : T(0);
    const T last = at + kCount < size ? math::load(row[at + kCount]) : T(0);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      before[i] = i > 0 ? center[i - 1] : first;
      after[i] = i + 1 < kCount ? center[i + 1] : last;
    }
  } else {
    load_if<kCount>(at >= inner, row + at - inner, before);
    load_if<kCount>(at + inner < size, row + at + inner, after);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    out[i] = math::smooth_nearest(center[i], before[i], after[i], how.along_columns[0], how.along_columns[1]);
}

// Every thread marches through a strip of rows and keeps the last of them in registers. Neighbours in a row are mostly
// in the first-level cache, where the threads beside have brought them. Strips are walked down and up in turns: two
// that meet read the rows at their border at about the same time, so that one of them finds these in a cache.
template <bool kAdjacent, int kCount, typename Element, typename T>
__global__ void __launch_bounds__(kThreads)
    nearest(const Element* __restrict__ source, Element* __restrict__ target, const Nearest<T> how) {
  const int64_t unit = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (unit >= how.units) return;
  const int64_t size = how.plane.columns * how.plane.inner, vectors = size / kCount;
  const int64_t strip = unit / vectors, at = (unit - strip * vectors) * kCount;
  const int64_t plane = strip / how.strips, number = strip - plane * how.strips, first = number * how.strip;
  const int64_t rows = how.plane.rows, last = (first + how.strip < rows ? first + how.strip : rows) - 1;
  const bool down = number % 2 == 0;
  const int64_t begin = down ? first : last, ahead = down ? size : -size;
  const int64_t rows_ahead = down ? rows - 1 - first : last; // that the plane has
  const Element* row = source + (plane * rows + begin) * size;
  Element* out = target + (plane * rows + begin) * size + at;

  T behind[kCount], now[kCount], next[kCount];
  clear(behind);
  if (rows_ahead < rows - 1) smooth_columns<kAdjacent>(row - ahead, at, how, behind);
  smooth_columns<kAdjacent>(row, at, how, now);
#pragma unroll 1 // more are not needed, and cost registers
  for (int64_t i = 0; i <= last - first; ++i, out += ahead) {
    row += ahead;
    clear(next);
    if (i < rows_ahead) smooth_columns<kAdjacent>(row, at, how, next);
    T result[kCount];
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      result[j] = math::smooth_nearest(now[j], behind[j], next[j], how.across_rows[0], how.across_rows[1]);
      behind[j] = now[j];
      now[j] = next[j];
    }
    store<kCount>(out, result);
  }
}

template <typename Element, bool kAdjacent, int kCount>
void launch_nearest(const void* source, void* target, Nearest<Compute<Element>> how, int64_t planes, void* stream) {
  how.units = planes * how.strips * (how.plane.row_size() / kCount);
  launch(nearest<kAdjacent, kCount, Element, Compute<Element>>, pieces(how.units, kThreads), kThreads, stream,
         static_cast<const Element*>(source), static_cast<Element*>(target), how);
}

// With the widest access that every row allows, of kBytes or less.
template <typename Element, int kBytes = kAccessBytes>
void launch_widest(const void* source, void* target, const Nearest<Compute<Element>>& how, int64_t planes,
                   void* stream) {
  constexpr int kCount = kBytes / int(sizeof(Element));
  const bool adjacent = how.plane.inner == 1;
  if constexpr (kCount == 1 || kBytes < 8) {
    launch_nearest<Element, false, 1>(source, target, how, planes, stream);
  } else if ((adjacent ? how.plane.columns : how.plane.inner) % kCount != 0 ||
             !are_aligned(source, kBytes, target, kBytes)) {
    launch_widest<Element, kBytes / 2>(source, target, how, planes, stream);
  } else if (adjacent) {
    launch_nearest<Element, true, kCount>(source, target, how, planes, stream);
  } else {
    launch_nearest<Element, false, kCount>(source, target, how, planes, stream);
  }
}

// ---- any window, in one dimension ----

template <typename T> struct Weights {
  T near[Window::kRadius + 1];
  const T* far; // all of them, where there are more
  int64_t radius;
};

// A thread smooths one vector, whose neighbours are vectors, too.
template <int kCount, typename From, typename To, typename T>
__global__ void __launch_bounds__(kThreads)
    lines(const From* __restrict__ source, To* __restrict__ target, const Lines lines, int64_t units,
          const __grid_constant__ Weights<T> weights) {
  const int64_t unit = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (unit >= units) return;
  const int64_t at = unit * kCount, place = at / lines.inner % lines.length;
  const From* x = source + at;
  T sum[kCount], before[kCount], after[kCount];
  const auto load_at = [&](int64_t distance) {
    load_if<kCount>(place >= distance, x - distance * lines.inner, before);
    load_if<kCount>(place + distance < lines.length, x + distance * lines.inner, after);
  };
  load<kCount>(x, sum);
  load_at(1);
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    sum[i] = math::smooth_nearest(sum[i], before[i], after[i], weights.near[0], weights.near[1]);
#pragma unroll 2 // more would spill registers
  for (int64_t distance = 2; distance <= weights.radius; ++distance) {
    const T weight = weights.far == nullptr ? weights.near[distance] : weights.far[distance];
    load_at(distance);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] = math::smooth_farther(sum[i], before[i], after[i], weight);
  }
  store<kCount>(target + at, sum);
}

template <typename From, typename To>
void launch_lines(const void* source, void* target, const Lines& shape, const Window& window, void* stream) {
  using T = Compute<From>;
  constexpr int kCount = kAccessBytes / int(sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));
  Weights<T> weights{};
  weights.far = static_cast<const T*>(window.weights_on_device);
  weights.radius = std::min(window.radius, shape.length - 1); // farther neighbours would all be zero
  for (int64_t i = 0; i <= window.radius && i <= Window::kRadius; ++i) weights.near[i] = T(window.weights[i]);
  const int64_t elements = shape.outer * shape.length * shape.inner;
  const auto run = [&](auto kernel, int64_t units) {
    launch(kernel, pieces(units, kThreads), kThreads, stream, static_cast<const From*>(source),
           static_cast<To*>(target), shape, units, weights);
  };
  if (shape.inner % kCount == 0 && are_aligned(source, kCount * sizeof(From), target, kCount * sizeof(To)))
    run(lines<kCount, From, To, T>, elements / kCount);
  else
    run(lines<1, From, To, T>, elements);
}

// Calls `work` with an element of the type.
template <typename Work> void with_element(SmoothElement type, const Work& work) {
  switch (type) {
  case SmoothElement::kFloat:
    return work(float{});
  case SmoothElement::kDouble:
    return work(double{});
  case SmoothElement::kBFloat16:
    return work(math::BFloat16{});
  case SmoothElement::kHalf:
    return work(math::Half{});
  }
}

} // namespace

void smooth_by_nearest(SmoothElement type, const void* source, void* target, const Sweep& sweep, double weight0,
                       double weight1, void* stream) {
  with_element(type, [&](auto element) {
    using Element = decltype(element);
    using T = Compute<Element>;
    const int64_t strips = pieces(sweep.plane.rows, kStrip), strip = pieces(sweep.plane.rows, strips);
    Nearest<T> how{sweep.plane, strips, strip, 0, {1, 0}, {1, 0}};
    const T weights[2] = {T(weight0), T(weight1)};
    if (sweep.plane.across_rows) std::copy_n(weights, 2, how.across_rows);
    if (sweep.plane.across_columns) std::copy_n(weights, 2, how.along_columns);
    launch_widest<Element>(source, target, how, sweep.planes, stream);
  });
}

void smooth_lines(SmoothElement from, const void* source, SmoothElement to, void* target, const Lines& lines,
                  const Window& window, void* stream) {
  with_element(from == to ? from : std::max(from, to), [&](auto element) { // 16-bit types come last
    using Element = decltype(element);
    using T = Compute<Element>;
    if (from == to)
      launch_lines<Element, Element>(source, target, lines, window, stream);
    else if constexpr (!std::is_same_v<Element, T>) {
      if (from == SmoothElement::kFloat)
        launch_lines<T, Element>(source, target, lines, window, stream);
      else
        launch_lines<Element, T>(source, target, lines, window, stream);
    }
  });
}

} // namespace lerac_fast::cuda
