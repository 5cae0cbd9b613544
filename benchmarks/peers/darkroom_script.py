"""Darkroom: the folder is cleaned, the split taken as it is, a linear head fitted, then fine-tuned."""

import sys

from lib import data, training

if __name__ == "__main__":
    run = training.train(
        data.load(sys.argv[1]),
        architecture="efficientnet_lite0",
        strategy="fine_tune",
        epochs=int(sys.argv[2]),
        image_side=128,
        augmentation="flip",
        split_method="source",
    )
    print(run.summary())
    test = run.predictions.split("test")
    labels = [test.class_names[index] for index in test.predicted]
    table = test.frame[["path"]].rename(columns={"path": "file"}).assign(label=labels)
    table.to_csv("predictions.csv", index=False)
