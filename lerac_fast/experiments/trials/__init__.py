"""Trials: one model, trained on one data set under one regime from one seed. Planned, run, recorded."""
