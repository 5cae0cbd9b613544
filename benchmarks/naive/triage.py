"""The triage source's training: files are read and decoded in every epoch, Keras layers augment,
all in float32.

As there: `image_dataset_from_directory`, Rescaling inside the model, RandomFlip,
RandomRotation(0.1) and RandomZoom(0.1) mapped over the set, Adam. Fair to it: prefetching, parallel
mapping, graph mode, the same images in the same split.
"""

from __future__ import annotations

import sys

import keras
import tensorflow as tf
from keras import layers

from benchmarks.parts.measure import Clock, report


def main(train: str, val: str, *, augment: bool, epochs: int, seed: int, side: int) -> None:
    keras.utils.set_random_seed(seed)
    options = {"image_size": (side, side), "batch_size": 64, "label_mode": "int"}
    train_set = keras.utils.image_dataset_from_directory(
        train, shuffle=True, seed=seed, verbose=False, **options
    )
    val_set = keras.utils.image_dataset_from_directory(val, shuffle=False, verbose=False, **options)
    classes = len(train_set.class_names)
    if augment:
        augmentation = keras.Sequential(
            [
                layers.RandomFlip("horizontal_and_vertical"),
                layers.RandomRotation(0.1, fill_mode="nearest"),
                layers.RandomZoom(0.1, fill_mode="nearest"),
            ]
        )
        train_set = train_set.map(
            lambda x, y: (augmentation(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE
        )
    train_set, val_set = train_set.prefetch(tf.data.AUTOTUNE), val_set.prefetch(tf.data.AUTOTUNE)
    model = keras.Sequential(
        [
            keras.Input((side, side, 3)),
            layers.Rescaling(1.0 / 255),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(classes),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    clock = Clock()
    history = model.fit(
        train_set, validation_data=val_set, epochs=epochs, callbacks=[clock], verbose=0
    ).history
    report(clock, val_accuracy=history["val_accuracy"], num_parameters=model.count_params())


if __name__ == "__main__":
    epochs, seed, side = map(int, sys.argv[4:])
    main(
        sys.argv[1],
        sys.argv[2],
        augment=sys.argv[3] == "augmented",
        epochs=epochs,
        seed=seed,
        side=side,
    )
