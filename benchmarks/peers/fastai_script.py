"""fastai: `vision_learner` on a network of timm, fine-tuned."""

import os
import sys

import pandas
import torch
from fastai.vision.all import (
    ImageDataLoaders,
    Normalize,
    Resize,
    SaveModelCallback,
    accuracy,
    aug_transforms,
    get_image_files,
    vision_learner,
)

folder, epochs, weights = sys.argv[1], int(sys.argv[2]), os.environ.get("LITE0_FOR_TIMM")
loaders = ImageDataLoaders.from_folder(
    folder,
    train="train",
    valid="val",
    item_tfms=Resize(128),
    batch_tfms=aug_transforms(flip_vert=True),
    bs=32,
    seed=0,
    num_workers=0,
)
learner = vision_learner(loaders, "efficientnet_lite0", metrics=accuracy, pretrained=not weights)
if weights:  # offline: the file that the package of EfficientNet-Lite0 brings
    learner.model[0].model.load_state_dict(torch.load(f"{weights}/pytorch_model.bin"))
    loaders.add_tfms([Normalize.from_stats([0.5] * 3, [0.5] * 3)], "after_batch")
learner.fine_tune(epochs, cbs=SaveModelCallback(monitor="accuracy"))
files = get_image_files(f"{folder}/test")
_, _, predicted = learner.get_preds(dl=loaders.test_dl(files), with_decoded=True)
names = [loaders.vocab[index] for index in predicted]
pandas.DataFrame({"file": files, "label": names}).to_csv("predictions.csv", index=False)
