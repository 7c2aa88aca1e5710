"""How a model is trained, and what surrounds the training."""

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["plateau", "steps", "cosine"]
Initializer = Literal["own", "glorot", "he", "orthogonal", "normal"]


@dataclass(frozen=True)
class Settings:
    """How a model is trained, as in Table 1 of Croitoru et al. Where that gives a range, the value is within it; what
    it does not give is a choice of this library, and said so where the model is defined.

    Attributes:
        optimizer: Of lerac_fast.
        lr: The base learning rate (eta), and the initial one of the first layer.
        min_lr: The rate at which LeRaC starts the last layer (eta_n(0)).
        batch_size: Examples per optimizer step, on all processes together.
        epochs: The most epochs; training may end earlier, see stop-patience.
        lerac_epochs: How many epochs LeRaC lasts (k).
        sigma: Of CBS, at the start.
        decay: What CBS multiplies sigma by (d).
        cbs_every: After how many epochs it does (u).
        momentum: Of SGD.
        weight_decay: Of the optimizer.
    """

    optimizer: Literal["SGD", "Adam", "AdamW", "Adamax"]
    lr: float
    min_lr: float
    batch_size: int
    epochs: int
    lerac_epochs: float
    sigma: float = 1.0
    decay: float = 0.9
    cbs_every: float = 2.0
    momentum: float = 0.9
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Protocol:
    """What surrounds a training, whatever its model.

    Attributes:
        train_examples: How many examples to draw for training and validation; None, all.
        test_examples: How many test examples to draw; None, all.
        share: Which share of all examples to draw, to train and to test with alike; --scale of plan sets it.
        image_size: Height and width of images that come in various sizes; None, the usual one of the data set.
        seconds: How much of each recording is taken; None, the usual length of the data set.
        schedule: How the rate falls: by 10 when the validation loss has reached a plateau, in steps at `milestones`, or
            as half a cosine. The regime warm-up+cosine has the cosine in any case.
        milestones: Of steps, as shares of the epochs.
        step_factor: What a step multiplies the rate by.
        plateau_patience: Epochs without a lower validation loss, until the rate falls.
        stop_patience: Epochs without a better validation, until training ends; None, never. Neither counts while LeRaC
            runs. The papers do not give their patience.
        label_noise: The share of wrong labels, among those to train with and to validate with alike.
        noise_free: Train with the right labels of the wrongly labelled data only: the oracle.
        class_lr: Of data parameters: the rate of the classes' temperatures.
        instance_lr: The rate of the examples' temperatures.
        sigma_bounds: What temperatures are kept within; 0.05 and 20 in the authors' code.
        label_epsilon: Of the regime label-similarity: after each epoch, what the targets of other classes are
            multiplied by before all are divided by their sum, the own class counting 1.
        class_similarity: Of the same: a csv file with the similarity of each class, in rows, to each; not given, that
            of the classes' names.
        warm_up_epochs: Of the regime warm-up+cosine; None, as many as LeRaC would take.
        augment: Whether data that the paper augments (speech) is.
        mix_up: Whether batches are mixed where data is augmented so (speech). A plan in which a regime learns
            temperatures, which mixed examples have none of, has it off for all that it is compared with.
        augment_images: Crop and mirror training images at random, which Croitoru et al. do not. Images in files are cut
            as is usual for ImageNet, those in memory shifted as is usual for CIFAR.
        mosaic: Train on squares of four images each, in detection.
        by_speaker: Divide recordings of speech so that those who speak in one part speak in no other (crema-d). Not
            given, clips are divided, whoever speaks.
        initializer: Of the weights of convolutions and dense layers: as the model has it, or all alike, by Glorot and
            Bengio's or He et al.'s variance, orthogonal, or with a deviation of 0.02 whatever the layer.
        nesterov: Nesterov's momentum, of SGD.
        precision: bfloat16: forward passes under torch.autocast.
    """

    train_examples: int | None = None
    test_examples: int | None = None
    share: float = 1.0
    image_size: int | None = None
    seconds: float | None = None
    schedule: Schedule = "plateau"
    milestones: tuple[float, ...] = (0.5, 0.75)
    step_factor: float = 0.1
    plateau_patience: int = 5
    stop_patience: int | None = 15
    label_noise: float = 0.0
    noise_free: bool = False
    class_lr: float = 0.1
    instance_lr: float = 0.2
    sigma_bounds: tuple[float, float] | None = None
    label_epsilon: float = 0.99
    class_similarity: str | None = None
    warm_up_epochs: float | None = None
    augment: bool = True
    mix_up: bool = True
    augment_images: bool = False
    mosaic: bool = False
    by_speaker: bool = False
    initializer: Initializer = "own"
    nesterov: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"


USUAL = Protocol()
