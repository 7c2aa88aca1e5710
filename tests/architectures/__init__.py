"""`layer_groups` on the public architectures of torchvision, timm, transformers and diffusers, with random weights.

Run it with ``make architectures``, or ``python -m tests.architectures.survey``.
"""
