// tempered_cross_entropy for every device: checks, the result without data, and the derivatives.
#include "ops/tempered_cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/tempered_rows.h"

namespace lerac_fast::ops {

using at::Tensor;
using c10::string_view;
using OptionalTensor = std::optional<Tensor>;

namespace {
void check_targets(const Tensor& logits, const Tensor& targets) {
  TORCH_CHECK_VALUE(at::isFloatingType(logits.scalar_type()) && logits.layout() == at::kStrided && logits.dim() > 0,
                    "tempered_cross_entropy: logits must be floating point numbers [N, C, ...] or [C], not ",
                    logits.scalar_type(), " of shape ", logits.sym_sizes());
  TORCH_CHECK_VALUE(targets.scalar_type() == at::kLong,
                    "tempered_cross_entropy: targets must be class indices, of dtype int64, not ",
                    targets.scalar_type());
  auto expected = logits.sym_sizes().vec();
  expected.erase(expected.begin() + class_axis(logits));
  TORCH_CHECK_VALUE(targets.sym_sizes() == c10::SymIntArrayRef(expected), "tempered_cross_entropy: targets of shape ",
                    targets.sym_sizes(), " do not match logits of shape ", logits.sym_sizes(),
                    ", without their classes: ", c10::SymIntArrayRef(expected));
}

// The dispatcher chooses the kernels of one device, whatever the others are.
void check_device(const char* name, const Tensor& operand, const Tensor& logits) {
  TORCH_CHECK_VALUE(operand.device() == logits.device(), "tempered_cross_entropy: ", name, " is on ", operand.device(),
                    ", but the logits are on ", logits.device());
}
} // namespace

Reduction check_tempered_cross_entropy(const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                                       const OptionalTensor& weight, string_view reduction, double label_smoothing) {
  check_targets(logits, targets);
  check_device("targets", targets, logits);
  check_device("sigma", sigma, logits);
  if (weight.has_value()) check_device("weight", *weight, logits);
  TORCH_CHECK_VALUE(
      at::isFloatingType(sigma.scalar_type()) && sigma.sym_sizes() == targets.sym_sizes(),
      "tempered_cross_entropy: sigma must be floating point numbers that broadcast to the targets' shape ",
      targets.sym_sizes(), ", not ", sigma.scalar_type(), " of shape ", sigma.sym_sizes());
  if (weight.has_value()) {
    const auto classes = logits.sym_size(class_axis(logits));
    TORCH_CHECK_VALUE(weight->dim() == 1 && weight->sym_size(0) == classes && at::isFloatingType(weight->scalar_type()),
                      "tempered_cross_entropy: weight must be a floating point number for each of ", classes,
                      " classes, not ", weight->scalar_type(), " of shape ", weight->sym_sizes());
    TORCH_CHECK_VALUE(!weight->requires_grad(), "tempered_cross_entropy: weight requires a gradient, but gets none");
  }
  TORCH_CHECK_VALUE(label_smoothing >= 0 && label_smoothing <= 1,
                    "tempered_cross_entropy: label_smoothing must be between 0 and 1, not ", label_smoothing);
  if (reduction == "mean") return Reduction::kMean;
  if (reduction == "sum") return Reduction::kSum;
  TORCH_CHECK_VALUE(reduction == "none", "tempered_cross_entropy: reduction must be 'mean', 'sum' or 'none', not '",
                    reduction, "'");
  return Reduction::kNone;
}

void check_tempered_cross_entropy_backward(const Tensor& gradient, const Tensor& logits, const Tensor& targets,
                                           const Tensor& sigma, const OptionalTensor& weight, const Tensor& statistics,
                                           double label_smoothing) {
  check_tempered_cross_entropy(logits, targets, sigma, weight, "none", label_smoothing);
  check_device("the gradient", gradient, logits);
  TORCH_CHECK_VALUE(at::isFloatingType(gradient.scalar_type()) &&
                        (gradient.dim() == 0 || gradient.sym_sizes() == targets.sym_sizes()),
                    "tempered_cross_entropy: the gradient of the loss must be one floating point number, or of shape ",
                    targets.sym_sizes(), ", not ", gradient.scalar_type(), " of shape ", gradient.sym_sizes());
  check_device("statistics", statistics, logits);
  TORCH_CHECK_VALUE(statistics.scalar_type() == compute_type(logits) && statistics.dim() == 2 &&
                        statistics.sym_size(0) == targets.sym_numel() && statistics.sym_size(1) == kStatistics,
                    "tempered_cross_entropy: statistics must be ", compute_type(logits), " [", targets.sym_numel(),
                    ", ", kStatistics, "], as the forward pass has saved them, not ", statistics.scalar_type(),
                    " of shape ", statistics.sym_sizes());
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <typename Signature> auto find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

std::tuple<Tensor, Tensor> call_forward(const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                                        const OptionalTensor& weight, string_view reduction, double label_smoothing,
                                        int64_t ignore_index) {
  static const auto op =
      find<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&, string_view,
                                      double, int64_t)>("lerac_fast::_tempered_cross_entropy");
  return op.call(logits, targets, sigma, weight, reduction, label_smoothing, ignore_index);
}

std::tuple<Tensor, Tensor> call_backward(const Tensor& gradient, const Tensor& logits, const Tensor& targets,
                                         const Tensor& sigma, const OptionalTensor& weight, const Tensor& statistics,
                                         double label_smoothing, int64_t ignore_index) {
  static const auto op =
      find<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                                      const Tensor&, double, int64_t)>("lerac_fast::_tempered_cross_entropy_backward");
  return op.call(gradient, logits, targets, sigma, weight, statistics, label_smoothing, ignore_index);
}

Tensor tempered_cross_entropy(const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                              const OptionalTensor& weight, string_view reduction, double label_smoothing,
                              int64_t ignore_index) {
  check_targets(logits, targets);
  TORCH_CHECK_VALUE(at::is_expandable_to(sigma.sym_sizes(), targets.sym_sizes()),
                    "tempered_cross_entropy: sigma of shape ", sigma.sym_sizes(),
                    " does not broadcast to the targets' shape ", targets.sym_sizes());
  const Tensor each = sigma.sym_sizes() == targets.sym_sizes() ? sigma : sigma.expand_symint(targets.sym_sizes());
  return std::get<0>(call_forward(logits, targets, each, weight, reduction, label_smoothing, ignore_index));
}

// ---- without data ----

std::tuple<Tensor, Tensor> forward_meta(const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                                        const OptionalTensor& weight, string_view reduction, double label_smoothing,
                                        int64_t /*ignore_index*/) {
  const auto how = check_tempered_cross_entropy(logits, targets, sigma, weight, reduction, label_smoothing);
  const auto shape = how == Reduction::kNone ? targets.sym_sizes() : c10::SymIntArrayRef();
  const auto type = at::promote_types(logits.scalar_type(), sigma.scalar_type());
  return {at::empty_symint(shape, logits.options().dtype(type)),
          at::empty_symint({targets.sym_numel(), kStatistics}, logits.options().dtype(compute_type(logits)))};
}

std::tuple<Tensor, Tensor> backward_meta(const Tensor& gradient, const Tensor& logits, const Tensor& targets,
                                         const Tensor& sigma, const OptionalTensor& weight, const Tensor& statistics,
                                         double label_smoothing, int64_t /*ignore_index*/) {
  check_tempered_cross_entropy_backward(gradient, logits, targets, sigma, weight, statistics, label_smoothing);
  return {at::empty_like(logits), at::empty_like(sigma, sigma.options(), at::MemoryFormat::Contiguous)};
}

// ---- derivatives ----

// The first derivatives written with torch's own operators, which have derivatives themselves.
variable_list differentiable_gradients(const Tensor& gradient, const Tensor& logits, const Tensor& targets,
                                       const Tensor& sigma, const OptionalTensor& weight, const Tensor& statistics,
                                       double label_smoothing, int64_t ignore_index) {
  const auto type = compute_type(logits);
  const Tensor raw = logits.movedim(class_axis(logits), -1).to(type), s = sigma.to(type).unsqueeze(-1);
  const Tensor z = raw - raw.detach().amax(-1, true); // as the kernel does, for the sake of the digits
  const auto classes = z.size(-1);
  const Tensor at_target = at::one_hot(targets.masked_fill(targets == ignore_index, 0), classes).to(type);
  Tensor wanted = at_target * (1 - label_smoothing) + label_smoothing / double(classes);
  if (weight.has_value()) wanted = wanted * weight->to(type);
  const Tensor surplus = at::softmax(z / s, -1) * wanted.sum(-1, true) - wanted;
  const Tensor share = statistics.select(1, 3).view(targets.sizes());
  const Tensor scale = (gradient.to(type) * share).unsqueeze(-1);
  const Tensor by_logits = at::where(share.unsqueeze(-1) == 0, 0, surplus * (scale / s));
  // A class that cannot be has a logit of -inf and a derivative of 0.
  const Tensor by_sigma = -(by_logits * z.masked_fill(by_logits == 0, 0)).sum(-1) / s.squeeze(-1);
  return {by_logits.movedim(-1, class_axis(logits)).to(logits.scalar_type()), by_sigma.to(sigma.scalar_type())};
}

struct TemperedCrossEntropy : torch::autograd::Function<TemperedCrossEntropy> {
  // `statistics` is left out of the graph.
  static Tensor forward(AutogradContext* ctx, const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                        const OptionalTensor& weight, string_view reduction, double label_smoothing,
                        int64_t ignore_index, Tensor* statistics) {
    const at::AutoDispatchBelowADInplaceOrView below;
    Tensor loss;
    std::tie(loss, *statistics) =
        call_forward(logits, targets, sigma, weight, reduction, label_smoothing, ignore_index);
    ctx->save_for_backward({logits, targets, sigma, weight.value_or(Tensor()), *statistics});
    ctx->saved_data["label_smoothing"] = label_smoothing;
    ctx->saved_data["ignore_index"] = ignore_index;
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &targets = saved[1], &sigma = saved[2], &statistics = saved[4];
    const OptionalTensor weight = saved[3].defined() ? OptionalTensor(saved[3]) : std::nullopt;
    const double label_smoothing = ctx->saved_data["label_smoothing"].toDouble();
    const int64_t ignore_index = ctx->saved_data["ignore_index"].toInt();
    variable_list results(8);
    if (at::GradMode::is_enabled()) {
      const auto by = differentiable_gradients(gradients[0], logits, targets, sigma, weight, statistics,
                                               label_smoothing, ignore_index);
      results[0] = by[0];
      results[2] = by[1];
    } else {
      std::tie(results[0], results[2]) =
          call_backward(gradients[0], logits, targets, sigma, weight, statistics, label_smoothing, ignore_index);
    }
    return results;
  }
};

std::tuple<Tensor, Tensor> forward_autograd(const Tensor& logits, const Tensor& targets, const Tensor& sigma,
                                            const OptionalTensor& weight, string_view reduction, double label_smoothing,
                                            int64_t ignore_index) {
  Tensor statistics;
  Tensor loss = TemperedCrossEntropy::apply(logits, targets, sigma, weight, reduction, label_smoothing, ignore_index,
                                            &statistics);
  return {loss, statistics};
}

TORCH_LIBRARY_IMPL(lerac_fast, CompositeImplicitAutograd, m) {
  m.impl("tempered_cross_entropy", tempered_cross_entropy);
}
TORCH_LIBRARY_IMPL(lerac_fast, Meta, m) {
  m.impl("_tempered_cross_entropy", forward_meta);
  m.impl("_tempered_cross_entropy_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(lerac_fast, Autograd, m) { m.impl("_tempered_cross_entropy", forward_autograd); }

} // namespace
} // namespace lerac_fast::ops
