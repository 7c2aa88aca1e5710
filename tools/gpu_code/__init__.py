"""Evidence for GPU code where there is no GPU: every kernel is compiled ahead of time and its machine code is read.

Run it with ``python -m tools.gpu_code [--markdown PATH]``.
"""
