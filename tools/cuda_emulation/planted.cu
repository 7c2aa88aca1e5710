// TEST ONLY. Kernels with mistakes, which tests see found.
#include <cmath>

#include "cuda/overlap.h"

// ---- gaussian_smooth's kernels, whose warps' lanes lie 8 elements apart in the block ----

namespace emulation {
inline dim3 permuted_thread() { return dim3(threadIdx.x % 32 * (blockDim.x / 32) + threadIdx.x / 32); }
} // namespace emulation

#define threadIdx emulation::permuted_thread()
#define smooth_by_nearest permuted_smooth_by_nearest
#define smooth_lines permuted_smooth_lines
#include "cuda/gaussian_smooth_kernels.cu"
#undef smooth_lines
#undef smooth_by_nearest
#undef threadIdx

#define LERAC_VISIBLE extern "C" __attribute__((visibility("default")))

namespace {

using lerac_fast::cuda::launch;

void* stream_of(int stream) { return reinterpret_cast<void*>(intptr_t(stream)); }

// A block for each row, which reads it for its largest element, and again for the sum of the exponentials.
__global__ void softmax_in_two_passes(const float* rows, int64_t classes, float* sums) {
  __shared__ float of_threads[256];
  const float* row = rows + blockIdx.x * classes;
  const auto fold = [&](float start, const auto& combine, const auto& of_element) {
    float value = start;
    for (int64_t j = threadIdx.x; j < classes; j += blockDim.x) value = combine(value, of_element(row[j]));
    of_threads[threadIdx.x] = value;
    __syncthreads();
    value = start;
    for (unsigned i = 0; i < blockDim.x; ++i) value = combine(value, of_threads[i]);
    __syncthreads();
    return value;
  };
  const float largest = fold(-INFINITY, [](float a, float b) { return std::fmax(a, b); }, [](float z) { return z; });
  const float sum = fold(0, [](float a, float b) { return a + b; }, [&](float z) { return std::exp(z - largest); });
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void add_one(float* x, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) x[i] += 1;
}

// x + 1 into y, beside which the next launch may begin.
__global__ void add_one_ahead(const float* x, float* y, int64_t count) {
  lerac_fast::cuda::let_next_begin();
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) y[i] = x[i] + 1;
}

enum class Waits { kBeforeIt, kAfterReading, kAfterWriting, kNowhere, kInSomeBlocks };

// x + y into z.
__global__ void add_behind(float* x, const float* y, float* z, int64_t count, Waits waits) {
  using lerac_fast::cuda::wait_for_previous;
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  if (waits == Waits::kInSomeBlocks && blockIdx.x != 0) return;
  if (waits != Waits::kAfterReading && waits != Waits::kNowhere) {
    if (waits == Waits::kAfterWriting) x[i] = -1;
    wait_for_previous();
  }
  z[i] = x[i] + y[i];
  if (waits == Waits::kAfterReading) wait_for_previous();
}

} // namespace

LERAC_VISIBLE void planted_smooth(const float* source, float* target, int64_t planes, int64_t rows, int64_t columns) {
  const lerac_fast::ops::Plane plane{rows, columns, 1, columns, true, true};
  lerac_fast::cuda::permuted_smooth_by_nearest(lerac_fast::ops::SmoothElement::kFloat, source, target, {planes, plane},
                                               0.5, 0.25, nullptr);
}

LERAC_VISIBLE void planted_softmax(const float* rows, int64_t count, int64_t classes, float* sums) {
  launch(softmax_in_two_passes, count, 256, nullptr, rows, classes, sums);
}

LERAC_VISIBLE void planted_add_one(float* x, int64_t count, int stream) {
  launch(add_one, (count + 255) / 256, 256, stream_of(stream), x, count);
}

LERAC_VISIBLE void planted_overlap(float* x, float* y, float* z, int64_t count, int waits) {
  const int64_t blocks = (count + 255) / 256;
  launch(add_one_ahead, blocks, 256, nullptr, x, y, count);
  lerac_fast::cuda::launch_overlapping(add_behind, blocks, 256, nullptr, x, y, z, count, Waits(waits));
}
