"""Pictures of more than 8 bits are read by a model as its training read its own."""

import io

import numpy as np
from PIL import Image

from lib.apply.classifier import Classifier, read_picture
from lib.data.value_range import Rendering


def test_a_model_of_12_bit_pictures_reads_new_ones_alike():
    stored = np.linspace(0, 4095, 64, dtype=np.uint16).reshape(8, 8)
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG")
    model = Classifier(
        name="m",
        class_names=("a", "b"),
        size=(8, 8),
        predict_pixels=lambda pixels: np.full((len(pixels), 2), 0.5),
        rendering=Rendering({"uint16": (0.0, 4095.0)}),
    )
    pixels = read_picture(buffer.getvalue(), **model.reading)
    expected = np.rint(stored / 4095 * 255).astype(int)
    assert np.abs(pixels[..., 0].astype(int) - expected).max() <= 1
    assert pixels.max() == 255  # not 15, as with the range of 16 bits
