"""Curricula: schedules over layers, feature maps and examples."""
