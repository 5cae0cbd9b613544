"""The Simpsons source's transfer: ResNet101V2, frozen or whole, every image through all of it in
every epoch, in float32.

`frozen` learns a head; `whole` learns everything; `eager` is the same as the source ran it, with
run_eagerly = True. Weights are random, since what they are does not change what they cost.
"""

from __future__ import annotations

import sys

import keras
import tensorflow as tf
from keras import layers

from benchmarks.parts.measure import Clock, report


def main(train: str, *, kind: str, epochs: int, steps: int) -> None:
    images = keras.utils.image_dataset_from_directory(
        train, image_size=(128, 128), batch_size=64, seed=0, verbose=False
    )
    classes = len(images.class_names)
    images = images.map(
        lambda x, y: (keras.applications.resnet_v2.preprocess_input(x), y),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    images = (images.repeat() if steps else images).prefetch(tf.data.AUTOTUNE)
    base = keras.applications.ResNet101V2(
        include_top=False, weights=None, input_shape=(128, 128, 3)
    )
    base.trainable = kind != "frozen"
    model = keras.Sequential(
        [base, layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(classes)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(1e-3 if kind == "frozen" else 1e-4)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], run_eagerly=kind == "eager")
    clock = Clock(by_step=bool(steps))
    model.fit(images, epochs=epochs, steps_per_epoch=steps or None, callbacks=[clock], verbose=0)
    report(clock, num_parameters=model.count_params())


if __name__ == "__main__":
    main(sys.argv[1], kind=sys.argv[2], epochs=int(sys.argv[3]), steps=int(sys.argv[4]))
