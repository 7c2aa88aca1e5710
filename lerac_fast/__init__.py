"""A learning rate of its own for every layer, at no cost, and the curricula that live on it."""
