"""Models of diffusers, made small."""

from tests.architectures.architecture import Architecture
from tests.architectures.diffusers_autoencoders import autoencoders
from tests.architectures.diffusers_transformers import transformers
from tests.architectures.diffusers_unets import unets


def architectures() -> list[Architecture]:
    return [*unets(), *autoencoders(), *transformers()]
