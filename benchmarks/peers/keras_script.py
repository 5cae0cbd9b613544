"""Keras alone, as in its guide "Image classification from scratch": its own weights need a download."""

import sys

import keras
import numpy as np
import pandas
from keras import layers

folder, epochs = sys.argv[1], int(sys.argv[2])
options = {"image_size": (128, 128), "batch_size": 32}
load = keras.utils.image_dataset_from_directory
train = load(f"{folder}/train", seed=0, **options)
val, test = (load(f"{folder}/{part}", shuffle=False, **options) for part in ("val", "test"))
model = keras.Sequential(
    [
        layers.Rescaling(1 / 255),
        layers.RandomFlip("horizontal_and_vertical", seed=0),
        *[
            layer
            for filters in (16, 32, 64, 128)
            for layer in (
                layers.Conv2D(filters, 3, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(),
            )
        ],
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.3),
        layers.Dense(len(train.class_names), activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
best = keras.callbacks.ModelCheckpoint("best.keras", monitor="val_accuracy", save_best_only=True)
model.fit(train, validation_data=val, epochs=epochs, callbacks=[best], verbose=2)
predicted = np.argmax(keras.models.load_model("best.keras").predict(test, verbose=0), axis=1)
names = [train.class_names[index] for index in predicted]
pandas.DataFrame({"file": test.file_paths, "label": names}).to_csv("predictions.csv", index=False)
