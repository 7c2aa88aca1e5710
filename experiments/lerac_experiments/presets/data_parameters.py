"""Of the paper on data parameters (Saxena et al., 2019)."""

from dataclasses import replace

from lerac_experiments.presets.combinations import DCL_RUNS, SIGMA_BOUNDS, trials_of
from lerac_experiments.settings import Protocol
from lerac_experiments.trials.trial import Trial


def table1() -> list[Trial]:
    """Saxena et al., Table 1: WRN-28-10 as Zagoruyko and Komodakis train it, with Nesterov's momentum and / 5 at 60,
    120 and 160 of 200 epochs; ResNet-18 for 100 epochs, / 10 at 30, 60 and 90."""
    regimes = ("conventional", "dp-class", "dp-joint")
    common = Protocol(schedule="steps", stop_patience=None, augment_images=True)
    cifar = replace(common, milestones=(0.3, 0.6, 0.8), step_factor=0.2, nesterov=True)
    imagenet = replace(common, milestones=(0.3, 0.6, 0.9), instance_lr=0.8)
    return [
        *trials_of(("wrn-28-10",), ("cifar100",), regimes, range(DCL_RUNS), cifar),
        *trials_of(
            ("resnet18",),
            ("imagenet",),
            regimes,
            range(DCL_RUNS),
            imagenet,
            epochs=100,
            batch_size=256,
            weight_decay=1e-4,
        ),
    ]


def table2() -> list[Trial]:
    """Saxena et al., Table 2, and the 20% and 80% of its supplementary: wrong labels, 84 epochs; and the oracle, that
    sees right labels only. The rate falls at epoch 80, and temperatures are kept within bounds, as in their code."""
    trials = []
    for noise in (0.2, 0.4, 0.8):
        protocol = Protocol(
            schedule="steps",
            milestones=(80 / 84,),
            stop_patience=None,
            label_noise=noise,
            instance_lr=0.2,
            sigma_bounds=SIGMA_BOUNDS,
            augment_images=True,
        )
        data = ("cifar10", "cifar100")
        trials += trials_of(("wrn-28-10",), data, ("conventional", "dp-instance"), range(DCL_RUNS), protocol, epochs=84)
        oracle = replace(protocol, noise_free=True)
        trials += trials_of(("wrn-28-10",), data, ("conventional",), range(DCL_RUNS), oracle, epochs=84)
    return trials


def figure4() -> list[Trial]:
    """Saxena et al., Figure 4, and that of the supplementary: temperatures of right and of wrong labels over the
    training. Of Table 2 the part on CIFAR-100: a folder with that one has these trials, too."""
    protocol = Protocol(
        schedule="steps",
        milestones=(80 / 84,),
        stop_patience=None,
        instance_lr=0.2,
        sigma_bounds=SIGMA_BOUNDS,
        augment_images=True,
    )
    return [
        trial
        for noise in (0.2, 0.4, 0.8)
        for trial in trials_of(
            ("wrn-28-10",),
            ("cifar100",),
            ("conventional", "dp-instance"),
            range(DCL_RUNS),
            replace(protocol, label_noise=noise),
            epochs=84,
        )
    ]


def random_labels() -> list[Trial]:
    """Saxena et al., section 3.5: VGG16 on CIFAR-100, whose labels are all drawn at random. Of 100 classes a random one
    is wrong 99 times in 100. Settings are not given; the rates fall late, so that there is time to memorise."""
    protocol = Protocol(
        schedule="steps", milestones=(0.6, 0.85), stop_patience=None, label_noise=0.99, sigma_bounds=SIGMA_BOUNDS
    )
    regimes = ("conventional", "dp-class", "dp-instance", "dp-joint")
    return trials_of(("vgg16",), ("cifar100",), regimes, range(DCL_RUNS), protocol)


def webvision() -> list[Trial]:
    """Saxena et al., Table 1: ResNet-18 on WebVision, trained as on ImageNet."""
    protocol = Protocol(
        schedule="steps", milestones=(0.3, 0.6, 0.9), stop_patience=None, augment_images=True, instance_lr=0.8
    )
    return trials_of(
        *(("resnet18",), ("webvision",), ("conventional", "dp-instance", "dp-joint"), range(DCL_RUNS), protocol),
        epochs=100,
        batch_size=256,
        weight_decay=1e-4,
    )


def kitti() -> list[Trial]:
    """Saxena et al., Figure 2: SSD on KITTI, with temperatures of boxes, at a rate of 0.1, without momentum and weight
    decay. How long they train is not said: here as the model, the rate falling as in the paper of SSD."""
    protocol = Protocol(schedule="steps", milestones=(2 / 3, 5 / 6), stop_patience=None, instance_lr=0.1)
    return trials_of(("ssd",), ("kitti",), ("conventional", "dp-instance"), range(DCL_RUNS), protocol)
