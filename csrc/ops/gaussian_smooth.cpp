// gaussian_smooth for every device: checks, the result without data, and the derivative.
#include "ops/gaussian_smooth.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/library.h>

#include "math/gaussian.h"

namespace lerac_fast::ops {

using at::IntArrayRef;
using at::Tensor;

void check_gaussian_smooth(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  TORCH_CHECK_VALUE(at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided && !x.is_nested(),
                    "gaussian_smooth: x must be a dense tensor of floating point numbers, not ", x.scalar_type(),
                    " with layout ", x.layout());
  TORCH_CHECK_VALUE(sigma.dim() == 0 && at::isFloatingType(sigma.scalar_type()),
                    "gaussian_smooth: sigma must be a number or a floating point tensor without dimensions, not ",
                    sigma.scalar_type(), " of ", sigma.dim(), " dimensions");
  TORCH_CHECK_VALUE(sigma.is_cpu() || sigma.device() == x.device(), "gaussian_smooth: sigma is on ", sigma.device(),
                    "; it may be on the CPU or with x, which is on ", x.device());
  TORCH_CHECK_VALUE(!sigma.requires_grad(),
                    "gaussian_smooth: sigma requires a gradient, but it is not trained: pass sigma.detach()");
  TORCH_CHECK_VALUE(kernel_size > 0 && kernel_size % 2 == 1,
                    "gaussian_smooth: kernel_size must be odd and positive, not ", kernel_size);
  TORCH_CHECK_VALUE(!dims.empty(), "gaussian_smooth: dims is empty; name the axes to smooth");
  std::vector<bool> named(static_cast<size_t>(x.dim()), false);
  for (int64_t dim : dims) {
    TORCH_CHECK_VALUE(-x.dim() <= dim && dim < x.dim(), "gaussian_smooth: dims names axis ", dim,
                      ", which a tensor of ", x.dim(), " dimensions does not have");
    auto axis = named[static_cast<size_t>(dim < 0 ? dim + x.dim() : dim)];
    TORCH_CHECK_VALUE(!axis, "gaussian_smooth: dims names axis ", dim, " twice: ", dims);
    axis = true;
  }
}

std::vector<double> gaussian_weights(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  const auto width = sigma.item<double>();
  TORCH_CHECK_VALUE(width >= 0, "gaussian_smooth: sigma must be 0 or more, not ", width);
  int64_t longest = 2;
  for (int64_t dim : dims) longest = std::max(longest, x.size(dim));
  const int64_t radius = kernel_size / 2;
  const double sum = math::gaussian_sum(radius, width);
  std::vector<double> weights{1 / sum};
  for (int64_t i = 1; i <= std::min(radius, longest - 1); ++i) {
    const double weight = math::gaussian(double(i), width);
    if (weight == 0) break;
    weights.push_back(weight / sum);
  }
  const auto vanishes = [&](double weight) {
    return x.scalar_type() == at::kDouble ? weight == 0 : float(weight) == 0;
  };
  while (vanishes(weights.back())) weights.pop_back();
  return weights;
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor smooth(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("lerac_fast::gaussian_smooth", "")
                             .typed<Tensor(const Tensor&, const Tensor&, int64_t, IntArrayRef)>();
  return op.call(x, sigma, kernel_size, dims);
}

Tensor& smooth_in_place(Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("lerac_fast::gaussian_smooth_", "")
                             .typed<Tensor&(Tensor&, const Tensor&, int64_t, IntArrayRef)>();
  return op.call(x, sigma, kernel_size, dims);
}

Tensor smooth_meta(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  check_gaussian_smooth(x, sigma, kernel_size, dims);
  return at::empty_like(x);
}

Tensor& smooth_in_place_meta(Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  check_gaussian_smooth(x, sigma, kernel_size, dims);
  return x;
}

// Nobody else can see the memory of this gradient, nor will, so that it may be overwritten: one reference to the
// tensor, one to its storage, and bytes of torch's own allocator, not lent by NumPy or others. On a GPU, whose kernels
// need another tensor to write to, nothing would be gained.
bool is_ours_alone(const Tensor& gradient) {
  return gradient.is_cpu() && !at::GradMode::is_enabled() && !at::isTensorSubclassLike(gradient) &&
         gradient.use_count() == 1 && gradient.storage().use_count() == 1 &&
         gradient.storage().data_ptr().get_deleter() == c10::GetAllocator(gradient.device().type())->raw_deleter() &&
         gradient.is_non_overlapping_and_dense();
}

// The kernel is symmetric and the padding zero, so the operator is its own adjoint: backward is forward. `gradients` is
// a reference to what the engine moved to this node: a copy would count as another owner.
variable_list smooth_gradient(AutogradContext* ctx, const variable_list& gradients) {
  const auto kernel_size = ctx->saved_data["kernel_size"].toInt();
  const auto dims = ctx->saved_data["dims"].toIntVector();
  const Tensor sigma = ctx->get_saved_variables()[0];
  const bool in_place = is_ours_alone(gradients[0]);
  Tensor gradient = gradients[0];
  gradient =
      in_place ? smooth_in_place(gradient, sigma, kernel_size, dims) : smooth(gradient, sigma, kernel_size, dims);
  return {gradient, Tensor(), Tensor(), Tensor(), Tensor()};
}

void save(AutogradContext* ctx, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  ctx->save_for_backward({sigma});
  ctx->saved_data["kernel_size"] = kernel_size;
  ctx->saved_data["dims"] = dims.vec();
}

struct Smooth : torch::autograd::Function<Smooth> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& sigma, int64_t kernel_size,
                        IntArrayRef dims) {
    save(ctx, sigma, kernel_size, dims);
    const at::AutoDispatchBelowAutograd below;
    return smooth(x, sigma, kernel_size, dims);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    return smooth_gradient(ctx, gradients);
  }
};

struct SmoothInPlace : torch::autograd::Function<SmoothInPlace> {
  static Tensor forward(AutogradContext* ctx, Tensor x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims,
                        AutogradContext** context) {
    *context = ctx;
    save(ctx, sigma, kernel_size, dims);
    ctx->mark_dirty({x});
    const at::AutoDispatchBelowAutograd below;
    return smooth_in_place(x, sigma, kernel_size, dims);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    return smooth_gradient(ctx, gradients);
  }
};

Tensor smooth_autograd(const Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  check_gaussian_smooth(x, sigma, kernel_size, dims);
  return Smooth::apply(x, sigma, kernel_size, dims);
}

Tensor& smooth_in_place_autograd(Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  check_gaussian_smooth(x, sigma, kernel_size, dims);
  AutogradContext* context = nullptr;
  SmoothInPlace::apply(x, sigma, kernel_size, dims, &context);
  // Compiled autograd takes no node that says what it has overwritten, and nobody asks for that from here on. The
  // context lives if it was recorded.
  if (at::GradMode::is_enabled() && x.requires_grad()) context->mark_dirty({});
  return x;
}

Tensor& smooth_and_bump_version(Tensor& x, const Tensor& sigma, int64_t kernel_size, IntArrayRef dims) {
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    smooth_in_place(x, sigma, kernel_size, dims);
  }
  torch::autograd::impl::bump_version(x);
  return x;
}

TORCH_LIBRARY_IMPL(lerac_fast, Meta, m) {
  m.impl("gaussian_smooth", smooth_meta);
  m.impl("gaussian_smooth_", smooth_in_place_meta);
}
TORCH_LIBRARY_IMPL(lerac_fast, Autograd, m) {
  m.impl("gaussian_smooth", smooth_autograd);
  m.impl("gaussian_smooth_", smooth_in_place_autograd);
}
TORCH_LIBRARY_IMPL(lerac_fast, ADInplaceOrView, m) { m.impl("gaussian_smooth_", smooth_and_bump_version); }

} // namespace
} // namespace lerac_fast::ops
