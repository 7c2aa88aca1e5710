"""Data parameters: learned temperatures of classes and examples."""
