"""Ludwig: a declaration of one image feature and one category; its weights need a download."""

import sys
from pathlib import Path

import pandas
from ludwig.api import LudwigModel

if __name__ == "__main__":
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    parts = ("train", "val", "test")
    rows = [
        (str(file.resolve()), file.parent.name, number)
        for number, part in enumerate(parts)
        for file in sorted((folder / part).glob("*/*"))
    ]
    table = pandas.DataFrame(rows, columns=["image", "label", "split"])
    config = {
        "input_features": [
            {
                "name": "image",
                "type": "image",
                "encoder": {"type": "stacked_cnn"},
                "preprocessing": {"height": 128, "width": 128, "num_channels": 3},
            }
        ],
        "output_features": [{"name": "label", "type": "category"}],
        "preprocessing": {"split": {"type": "fixed", "column": "split"}},
        "trainer": {"epochs": epochs, "batch_size": 32},
    }
    model = LudwigModel(config)
    model.train(dataset=table, output_directory="ludwig")
    test = table[table["split"] == 2].reset_index(drop=True)
    predicted, _ = model.predict(dataset=test)
    test.assign(label=predicted["label_predictions"]).rename(columns={"image": "file"}).to_csv(
        "predictions.csv", index=False
    )
