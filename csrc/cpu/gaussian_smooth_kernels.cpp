// Compiled once per instruction set, with LERAC_FAST_KERNELS naming the table to define. It includes no torch and no
// standard containers; optimizer_step_kernels.cpp says why.
#include "cpu/gaussian_smooth_kernels.h"

#include "math/float16.h"
#include "math/gaussian.h"
#include "math/vector.h"

namespace lerac_fast::cpu {
namespace {

using math::Compute;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// ---- loops over elements ----

template <typename T, typename Out> void store_all(const T* __restrict from, Out* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) math::store(to[i], from[i]);
}

// The elements as the type of the arithmetic: themselves, or converted into `space`.
template <typename T> const T* load_all(const T* from, T*, int64_t) { return from; }
template <typename T, typename Element> const T* load_all(const Element* from, T* __restrict space, int64_t count) {
  for (int64_t i = 0; i < count; ++i) space[i] = math::load(from[i]);
  return space;
}

template <typename T, typename Out>
void smooth_nearest(const T* center, const T* before, const T* after, T weight0, T weight1, Out* __restrict out,
                    int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    math::store(out[i], math::smooth_nearest(center[i], before[i], after[i], weight0, weight1));
}

template <typename T> void smooth_farther(const T* before, const T* after, T weight, T* __restrict out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = math::smooth_farther(out[i], before[i], after[i], weight);
}

// ---- rows of pixels: the elements inside of a column fill vectors ----

// Smooths `kPacks` packs of every pixel of a row by the eight neighbours: first across the rows, then along the
// columns, of which the last two stay in registers. `above` holds the row above and is left holding this one, so that
// the target may be the source.
template <typename V, int kPacks, typename Element, typename T>
void smooth_pixels(const Element* x, const Element* below, Element* above, Element* out, const Plane& plane, T weight0,
                   T weight1) {
  using Pack = math::Pack<V, Element>;
  const V w0 = V{} + weight0, w1 = V{} + weight1;
  const auto smooth = [&](const Pack& center, const Pack& before, const Pack& after) {
    Pack result;
#pragma GCC unroll 2
    for (int part = 0; part < Pack::kParts; ++part)
      result.parts[part] = math::smooth_nearest(center.parts[part], before.parts[part], after.parts[part], w0, w1);
    return result;
  };
  const auto across_rows = [&](int64_t i) {
    Pack row, row_above, row_below;
    math::load(x + i, row);
    math::load(above + i, row_above);
    math::load(below + i, row_below);
    memcpy(above + i, x + i, Pack::kElements * sizeof(Element));
    return smooth(row, row_above, row_below);
  };
  Pack before[kPacks]{}, now[kPacks];
#pragma GCC unroll 4
  for (int k = 0; k < kPacks; ++k) now[k] = across_rows(k * Pack::kElements);
  const int64_t inner = plane.inner, last = (plane.columns - 1) * inner;
  for (int64_t pixel = 0; pixel < last; pixel += inner)
#pragma GCC unroll 4
    for (int k = 0; k < kPacks; ++k) {
      const int64_t i = pixel + k * Pack::kElements;
      const Pack after = across_rows(i + inner);
      math::store(out + i, smooth(now[k], before[k], after));
      before[k] = now[k];
      now[k] = after;
    }
#pragma GCC unroll 4
  for (int k = 0; k < kPacks; ++k) math::store(out + last + k * Pack::kElements, smooth(now[k], before[k], Pack{}));
}

template <typename Element>
void smooth_pixel_rows(const Element* source, Element* target, const Plane& plane, const Gaussian& gaussian,
                       int64_t begin, int64_t end, void* scratch) {
  using T = Compute<Element>;
  using Wide = math::Vector<T>;
  using Narrow = math::Vector<T, 16>;
  constexpr int64_t kWide = math::Pack<Wide, Element>::kElements, kNarrow = math::Pack<Narrow, Element>::kElements;
  constexpr int kPacks = 4 / math::Pack<Wide, Element>::kParts; // so that their registers suffice
  const T w0 = T(gaussian.weights[0]), w1 = T(gaussian.weights[1]);
  const int64_t size = plane.row_size(), inner = plane.inner;
  auto* above = static_cast<Element*>(scratch);
  Element* zeros = above + whole_lines(size);
  memset(scratch, 0, size_t(whole_lines(size) + size) * sizeof(Element)); // zero in every storage type
  if (begin > 0) memcpy(above, source + (begin - 1) * plane.row_stride, size_t(size) * sizeof(Element));
  for (int64_t row = begin; row < end; ++row) {
    const Element* x = source + row * plane.row_stride;
    const Element* below = row + 1 < plane.rows ? x + plane.row_stride : zeros;
    Element* out = target + row * plane.row_stride;
    int64_t i = 0;
    for (; i + kPacks * kWide <= inner; i += kPacks * kWide)
      smooth_pixels<Wide, kPacks>(x + i, below + i, above + i, out + i, plane, w0, w1);
    for (; i + kWide <= inner; i += kWide) smooth_pixels<Wide, 1>(x + i, below + i, above + i, out + i, plane, w0, w1);
    for (; i + kNarrow <= inner; i += kNarrow)
      smooth_pixels<Narrow, 1>(x + i, below + i, above + i, out + i, plane, w0, w1);
    for (; i < inner; ++i) smooth_pixels<T, 1>(x + i, below + i, above + i, out + i, plane, w0, w1);
  }
}

// ---- rows, one at a time ----

// Smooths one row along its columns. `zeros` has as many elements as the row.
template <typename T>
void smooth_row(const T* x, T* out, const Plane& plane, const T* weights, int64_t radius, const T* zeros) {
  const int64_t size = plane.row_size();
  for (int64_t distance = 1; distance <= radius; ++distance) {
    const int64_t shift = smaller(distance * plane.inner, size);
    const auto part = [&](int64_t begin, int64_t end, bool has_before, bool has_after) {
      const T* before = has_before ? x + begin - shift : zeros;
      const T* after = has_after ? x + begin + shift : zeros;
      if (distance == 1)
        smooth_nearest(x + begin, before, after, weights[0], weights[1], out + begin, end - begin);
      else
        smooth_farther(before, after, weights[distance], out + begin, end - begin);
    };
    const int64_t with_before = shift, with_after = size - shift; // from the one on, up to the other
    part(0, smaller(with_before, with_after), false, true);
    if (with_before < with_after)
      part(with_before, with_after, true, true);
    else
      part(with_after, with_before, false, false);
    part(larger(with_before, with_after), size, true, false);
  }
}

// Where results are computed: in the target itself, or in `space`, from where store_result() converts them.
template <typename T> T* result_space(T* target, T*) { return target; }
template <typename T, typename Element> T* result_space(Element*, T* space) { return space; }
template <typename T> void store_result(const T*, T*, int64_t) {}
template <typename T, typename Element> void store_result(const T* result, Element* target, int64_t count) {
  store_all(result, target, count);
}

template <typename T> const T* convert_weights(const Gaussian& gaussian, T* space) {
  for (int64_t i = 0; i <= gaussian.radius; ++i) space[i] = T(gaussian.weights[i]);
  return space;
}

// ---- one row that needs no other, a block at a time ----

// The elements [begin, begin + count) of a row of `size`; beyond its end, zeros.
template <typename T, typename Element>
void load_up_to_end(const Element* row, int64_t size, int64_t begin, T* __restrict to, int64_t count) {
  const int64_t there = larger(smaller(size - begin, count), 0);
  for (int64_t i = 0; i < there; ++i) to[i] = math::load(row[begin + i]);
  for (int64_t i = there; i < count; ++i) to[i] = 0;
}

// A block is copied with its borders before it is smoothed, and the next one takes over what they share, so that the
// target may be the source. `space` is what scratch_of_rows() has for it.
template <typename Element, typename T>
void smooth_row_in_blocks(const Element* x, Element* target, const Plane& plane, const Gaussian& gaussian,
                          const T* weights, T* space) {
  const int64_t size = plane.row_size(), border = border_of_block(plane, gaussian), block = block_of(plane, gaussian);
  const int64_t radius = radius_along(plane.columns, gaussian);
  T* results = space;
  T* copied = results + whole_lines(block); // border, block, border
  const T* center = copied + border;
  for (int64_t i = 0; i < border; ++i) copied[i] = 0;
  load_up_to_end(x, size, 0, copied + border, border);
  for (int64_t begin = 0; begin < size; begin += block) {
    const int64_t count = smaller(block, size - begin);
    load_up_to_end(x, size, begin + border, copied + 2 * border, count);
    T* out = plane.across_rows ? results : result_space(target + begin, results);
    smooth_nearest(center, center - plane.inner, center + plane.inner, weights[0], weights[1], out, count);
    for (int64_t distance = 2; distance <= radius; ++distance) {
      const int64_t shift = distance * plane.inner;
      smooth_farther(center - shift, center + shift, weights[distance], out, count);
    }
    if (plane.across_rows) // of which there is one
      for (int64_t i = 0; i < count; ++i)
        math::store(target[begin + i], math::smooth_nearest(out[i], T(0), T(0), weights[0], weights[1]));
    else
      store_result(out, target + begin, count);
    memmove(copied, copied + count, size_t(2 * border) * sizeof(T));
  }
}

template <typename Element>
void smooth_rows(const void* source, void* target, const Plane& plane, const Gaussian& gaussian, int64_t begin,
                 int64_t end, void* scratch) {
  using T = Compute<Element>;
  if (goes_by_pixels(plane, gaussian))
    return smooth_pixel_rows(static_cast<const Element*>(source), static_cast<Element*>(target), plane, gaussian, begin,
                             end, scratch);
  const auto source_row = [&](int64_t row) { return static_cast<const Element*>(source) + row * plane.row_stride; };
  const auto target_row = [&](int64_t row) { return static_cast<Element*>(target) + row * plane.row_stride; };
  if (goes_in_blocks(plane)) {
    T* weights = static_cast<T*>(scratch) + scratch_of_rows(plane, gaussian) - (gaussian.radius + 1);
    convert_weights(gaussian, weights);
    for (int64_t row = begin; row < end; ++row)
      smooth_row_in_blocks(source_row(row), target_row(row), plane, gaussian, weights, static_cast<T*>(scratch));
    return;
  }
  const int64_t size = plane.row_size(), window = window_of(plane, gaussian);
  const int64_t radius = radius_along(plane.rows, gaussian);
  T* ring = static_cast<T*>(scratch); // the rows that an output row needs, smoothed along their columns
  const int64_t stride = whole_lines(size);
  T* zeros = ring + window * stride;
  T* space = zeros + stride;
  const T* weights = convert_weights(gaussian, space + stride);
  for (int64_t i = 0; i < size; ++i) zeros[i] = 0;

  const auto prepare = [&](int64_t row, T* out) {
    const T* x = load_all(source_row(row), space, size);
    if (plane.across_columns)
      smooth_row(x, out, plane, weights, radius_along(plane.columns, gaussian), zeros);
    else
      store_all(x, out, size);
  };
  const auto prepared = [&](int64_t row) {
    return row < 0 || row >= plane.rows ? zeros : ring + row % window * stride;
  };
  for (int64_t newest = larger(begin - radius, 0); newest < end + radius; ++newest) {
    if (newest < plane.rows) prepare(newest, prepared(newest));
    const int64_t row = newest - radius;
    if (row < begin) continue;
    const T *center = prepared(row), *before = prepared(row - 1), *after = prepared(row + 1);
    if (radius == 1) {
      smooth_nearest(center, before, after, weights[0], weights[1], target_row(row), size);
      continue;
    }
    T* out = result_space(target_row(row), space);
    smooth_nearest(center, before, after, weights[0], weights[1], out, size);
    for (int64_t distance = 2; distance <= radius; ++distance)
      smooth_farther(prepared(row - distance), prepared(row + distance), weights[distance], out, size);
    store_result(out, target_row(row), size);
  }
}

// ---- small planes, several as one array ----

// An index as wide as the elements that it goes with, so that both fill vectors alike.
template <typename T> struct IndexType {
  using type = int32_t;
};
template <> struct IndexType<double> {
  using type = int64_t;
};
template <typename T> using Index = typename IndexType<T>::type;

// One axis of an array that holds many lines: `place` says where along its line an element is.
template <typename T> struct Lines {
  const Index<T>* place;
  int64_t length, stride;
};

// Neighbours that belong to another line, or lie beyond the array, are zero: chosen, not multiplied, as 0 x NaN is NaN.
template <bool has_before, bool has_after, typename T>
void smooth_lines_part(const T* x, const Lines<T>& lines, int64_t distance, const T* weights, T* __restrict out,
                       int64_t begin, int64_t end) {
  const auto first = Index<T>(distance), last = Index<T>(lines.length - distance);
  const T* before = x - (has_before ? distance * lines.stride : 0);
  const T* after = x + (has_after ? distance * lines.stride : 0);
  const Index<T>* place = lines.place;
  const T weight0 = weights[0], weight = weights[distance];
  const auto neighbour_before = [=](int64_t i) { return has_before && place[i] >= first ? before[i] : T(0); };
  const auto neighbour_after = [=](int64_t i) { return has_after && place[i] < last ? after[i] : T(0); };
  if (distance == 1)
    for (int64_t i = begin; i < end; ++i)
      out[i] = math::smooth_nearest(x[i], neighbour_before(i), neighbour_after(i), weight0, weight);
  else
    for (int64_t i = begin; i < end; ++i)
      out[i] = math::smooth_farther(out[i], neighbour_before(i), neighbour_after(i), weight);
}

template <typename T>
void smooth_lines(const T* x, T* out, const Lines<T>& lines, const Gaussian& gaussian, const T* weights,
                  int64_t count) {
  const int64_t radius = radius_along(lines.length, gaussian);
  for (int64_t distance = 1; distance <= radius; ++distance) {
    const int64_t shift = smaller(distance * lines.stride, count);
    const int64_t with_before = shift, with_after = count - shift; // from the one on, up to the other
    smooth_lines_part<false, true>(x, lines, distance, weights, out, 0, smaller(with_before, with_after));
    if (with_before < with_after)
      smooth_lines_part<true, true>(x, lines, distance, weights, out, with_before, with_after);
    else
      smooth_lines_part<false, false>(x, lines, distance, weights, out, with_after, with_before);
    smooth_lines_part<true, false>(x, lines, distance, weights, out, larger(with_before, with_after), count);
  }
}

// The row and the column of every element of several planes: of the first by counting, of the others by copying.
template <typename I> void write_places(const Plane& plane, I* __restrict row, I* __restrict column, int64_t size) {
  int64_t done = 0;
  for (int64_t r = 0; r < plane.rows; ++r)
    for (int64_t c = 0; c < plane.columns; ++c)
      for (int64_t j = 0; j < plane.inner; ++j, ++done) {
        row[done] = I(r);
        column[done] = I(c);
      }
  for (; done < size; done *= 2) {
    const auto bytes = size_t(smaller(done, size - done)) * sizeof(I);
    memcpy(row + done, row, bytes);
    memcpy(column + done, column, bytes);
  }
}

// Smooths the planes [0, count) with scratch memory for `at_once` of them.
template <typename Element>
void smooth_planes(const void* source, void* target, const Plane& plane, const Gaussian& gaussian, int64_t count,
                   int64_t at_once, void* scratch) {
  using T = Compute<Element>;
  const int64_t plane_size = plane.rows * plane.row_size(), size = smaller(count, at_once) * plane_size;
  const int64_t stride = whole_lines(size);
  T* space = static_cast<T*>(scratch);
  T* between = space + stride; // smoothed along one axis
  auto* column = reinterpret_cast<Index<T>*>(between + stride);
  auto* row = column + stride;
  const T* weights = convert_weights(gaussian, reinterpret_cast<T*>(row + stride));
  write_places(plane, row, column, size);
  const Lines<T> columns{column, plane.columns, plane.inner}, rows{row, plane.rows, plane.row_size()};
  for (int64_t first = 0; first < count; first += at_once) {
    const int64_t n = smaller(at_once, count - first) * plane_size;
    const T* x = load_all(static_cast<const Element*>(source) + first * plane_size, space, n);
    auto* to = static_cast<Element*>(target) + first * plane_size;
    smooth_lines(x, between, plane.across_columns ? columns : rows, gaussian, weights, n);
    if (plane.across_columns && plane.across_rows) {
      T* out = result_space(to, space);
      smooth_lines(between, out, rows, gaussian, weights, n);
      store_result(out, to, n);
    } else {
      store_all(between, to, n);
    }
  }
}

template <typename Element> constexpr GaussianSmoothKernel kernel{smooth_rows<Element>, smooth_planes<Element>};

} // namespace

// In the order of ops::SmoothElement.
extern const GaussianSmoothKernels LERAC_FAST_KERNELS = {
    {kernel<float>, kernel<double>, kernel<math::BFloat16>, kernel<math::Half>}};

} // namespace lerac_fast::cpu
