"""Trials: one model, trained on one data set under one regime from one seed; and what is kept of them."""
