"""Which layers a model has, and in which order the data goes through them."""
