"""AutoGluon: `MultiModalPredictor` on a table of image files."""

import os
import sys
from pathlib import Path

import pandas
from autogluon.multimodal import MultiModalPredictor

if __name__ == "__main__":
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    train, val, test = (
        pandas.DataFrame(
            [(str(file), file.parent.name) for file in sorted((folder / part).glob("*/*"))],
            columns=["image", "label"],
        )
        for part in ("train", "val", "test")
    )
    settings = {
        "model.names": ["timm_image"],
        "model.timm_image.checkpoint_name": os.environ.get("LITE0_FOR_TIMM", "efficientnet_lite0"),
        "optim.max_epochs": epochs,
        "env.num_workers": 0,
    }
    predictor = MultiModalPredictor(label="label", path="autogluon")
    predictor.fit(train, tuning_data=val, hyperparameters=settings)
    test = test.assign(label=predictor.predict(test).to_numpy())
    test.rename(columns={"image": "file"}).to_csv("predictions.csv", index=False)
