"""Training: `train(pictures, architecture=…, strategy=…)`, or step by step as a `Session`."""

from lib import lazy

__getattr__ = lazy.attach(
    __name__,
    train="lib.training.session",
    finished_runs="lib.training.session",
    Session="lib.training.session",
    TrainedRun="lib.training.session",
)
