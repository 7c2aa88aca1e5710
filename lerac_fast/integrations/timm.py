"""Our optimizers in timm's registry, for `create_optimizer_v2` and timm's training script."""

from timm.optim._optim_factory import OptimInfo, default_registry

from lerac_fast import optim

__all__ = ["register"]

# timm takes of a name what follows its last underscore, and makes its own "adamw" of "lerac_adamw".
_OPTIMIZERS = (
    OptimInfo("leracsgd", optim.SGD, "SGD with Nesterov momentum", False, True, defaults={"nesterov": True}),
    OptimInfo("leracmomentum", optim.SGD, "SGD with classical momentum", False, True, defaults={"nesterov": False}),
    OptimInfo("leracadam", optim.Adam, "Adam", has_betas=True),
    OptimInfo("leracadamw", optim.AdamW, "Adam with decoupled weight decay", has_betas=True),
    OptimInfo("leracadamax", optim.Adamax, "Adam with the infinity norm", has_betas=True),
    OptimInfo("leraclion", optim.Lion, "Lion", has_eps=False, has_betas=True),
)


def register() -> tuple[str, ...]:
    """Add the optimizers of `lerac_fast.optim` to timm's registry, and return their names there.

    They are `leracsgd` and `leracmomentum` (with and without Nesterov's momentum, as timm's `sgd` and `momentum`),
    `leracadam`, `leracadamw`, `leracadamax` and `leraclion`. What timm does with its own names it does with these:

        >>> register()
        >>> optimizer = create_optimizer_v2(model, "leracadamw", lr=1e-3, weight_decay=0.05, layer_decay=0.75)

    **Write the names without an underscore.** timm looks up what follows the last one, so that "lerac_adamw" is its own
    "adamw", torch's class, and nothing tells it.

    It may be called any number of times.
    """
    for info in _OPTIMIZERS:
        if info.name not in default_registry.list_optimizers():
            default_registry.register(info)
    return tuple(info.name for info in _OPTIMIZERS)
