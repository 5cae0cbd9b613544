"""The first layer of every model: normalises pixels of 0 to 255."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from lib.errors import DarkroomError, check_choice


@dataclass(frozen=True)
class Normalization:
    """(pixel - mean) / std with pixels of 0 to 255, one number a channel (R, G, B); `bgr` turns the
    channels round after.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Source: keras.applications.imagenet_utils.preprocess_input, modes "tf", "torch" and "caffe"; for
# "lite" MEAN_RGB and
# STDDEV_RGB of efficientnet_lite_builder.py in https://github.com/tensorflow/tpu.
NORMALIZATIONS: dict[str, Normalization | None] = {
    "none": Normalization((0.0,) * 3, (1.0,) * 3),
    "unit": Normalization((0.0,) * 3, (255.0,) * 3),
    "symmetric": Normalization((127.5,) * 3, (127.5,) * 3),
    "symmetric_128": Normalization((128.0,) * 3, (128.0,) * 3),
    "imagenet": Normalization(
        tuple(255 * value for value in _IMAGENET_MEAN),
        tuple(255 * value for value in _IMAGENET_STD),
    ),
    "caffe": Normalization((123.68, 116.779, 103.939), (1.0,) * 3, bgr=True),
    "lite": Normalization((127.0,) * 3, (128.0,) * 3),
    "zscore": None,  # mean and std of the train split, handed in
}


@keras.saving.register_keras_serializable("darkroom")
class Preprocess(keras.layers.Layer):
    """Normalises RGB images of 0 to 255 by a method of `NORMALIZATIONS`, always in float32.

    `mean` and `std` (three numbers each, in units of 0 to 255) belong to "zscore" and to no other
    method.
    """

    def __init__(
        self,
        method: str = "unit",
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **layer: object,
    ):
        super().__init__(**{**layer, "dtype": "float32"})
        self.method, self.mean, self.std = method, mean, std
        self.normalization = normalization(method, mean=mean, std=std)

    def call(self, images):
        """Returns float32 of the images' shape."""
        numbers = self.normalization
        centred = keras.ops.cast(images, "float32") - keras.ops.array(numbers.mean, "float32")
        scaled = centred / keras.ops.array(numbers.std, "float32")  # (batch, height, width, 3)
        return keras.ops.flip(scaled, axis=-1) if numbers.bgr else scaled

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "method": self.method, "mean": self.mean, "std": self.std}


def normalization(
    method: str, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Normalization:
    """Returns the numbers of `method`. Raises DarkroomError for an unknown one and for a missing or
    useless mean and std.
    """
    check_choice("normalization", method, NORMALIZATIONS)
    if method != "zscore":
        if mean is not None or std is not None:
            raise DarkroomError(
                f"`mean` and `std` belong to normalization='zscore'. Received: {method!r}."
            )
        return NORMALIZATIONS[method]
    if len(mean or ()) != 3 or len(std or ()) != 3 or min(std) <= 0:
        raise DarkroomError(
            "normalization='zscore' needs `mean` and `std` of the train split, three numbers each "
            f"in units of 0 to 255, std above 0. Received: mean={mean}, std={std}."
        )
    return Normalization(tuple(map(float, mean)), tuple(map(float, std)))


def inputs(image_side: int) -> keras.KerasTensor:
    """Returns the symbolic input of every model: float32 or uint8 images of (batch, image_side,
    image_side, 3).
    """
    # float32 here: Keras casts bytes on the device, whereas an input of uint8 would cut augmented
    # floats to whole numbers.
    return keras.Input((image_side, image_side, 3), dtype="float32", name="images")
