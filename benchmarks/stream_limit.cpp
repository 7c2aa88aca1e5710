// The memory limit of an optimizer step: a loop that reads one array, and reads and writes `updated` others (1 to 3),
// over `count` floats with as many threads as the step. The arithmetic is next to nothing.
#include <cstdint>

template <int updated> static void stream(const float* gradient, float* const* arrays, int64_t count) {
  float* a = arrays[0];
  float* b = updated > 1 ? arrays[1] : nullptr;
  float* c = updated > 2 ? arrays[2] : nullptr;
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    a[i] += g;
    if constexpr (updated > 1) b[i] = b[i] * 0.5f + g;
    if constexpr (updated > 2) c[i] = c[i] * 0.5f + g * g;
  }
}

extern "C" void stream_pass(const float* gradient, float* const* arrays, int updated, int64_t count) {
  if (updated == 1) stream<1>(gradient, arrays, count);
  if (updated == 2) stream<2>(gradient, arrays, count);
  if (updated == 3) stream<3>(gradient, arrays, count);
}
