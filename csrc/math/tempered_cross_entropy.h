// Cross entropy of logits z that are divided by a temperature sigma, for one row with target y: with the wanted
// probabilities q (1 at y, or with label smoothing a little everywhere, times the class weights) and A = sum of q,
//
//   L        = A log sum_j exp((z_j - m) / sigma) - sum_j q_j (z_j - m) / sigma,    m = max_j z_j
//   dL/dz_j  = (A p_j - q_j) / sigma,                                              p = softmax(z / sigma)
//   dL/dsigma = (sum_j q_j (z_j - m) - A sum_j p_j (z_j - m)) / sigma^2
//
// Source: Saxena, Tuzel and DeCoste, "Data Parameters: A New Family of Parameters for Learning a Differentiable
// Curriculum", Eqs. 1, 3 and 4, in a form that is not 0/0 where p_y = 1.
#pragma once

#include "math/inline.h"

namespace lerac_fast::math {

// What one row sums up to, over its classes.
template <typename T> struct CrossEntropySums {
  T exponentials; // sum_j exp((z_j - m) / sigma)
  T expected;     // sum_j exp((z_j - m) / sigma) (z_j - m)
  T wanted;       // A = sum_j q_j
  T aimed;        // sum_j q_j (z_j - m)
};

template <typename T>
LERAC_INLINE T tempered_loss(const CrossEntropySums<T>& sums, T log_of_exponentials, T inverse_sigma) {
  return sums.wanted * log_of_exponentials - sums.aimed * inverse_sigma;
}

template <typename T> LERAC_INLINE T tempered_loss_by_sigma(const CrossEntropySums<T>& sums, T inverse_sigma) {
  const T surplus = sums.aimed - sums.wanted * (sums.expected / sums.exponentials);
  return surplus * inverse_sigma * inverse_sigma;
}

// V is a number or a vector of numbers, one for each of some classes.
template <typename V, typename T>
LERAC_INLINE V tempered_loss_by_logit(V probability, V wanted_probability, T wanted, T gradient_by_sigma) {
  return (probability * wanted - wanted_probability) * gradient_by_sigma;
}

} // namespace lerac_fast::math
