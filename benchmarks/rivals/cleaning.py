"""What CleanVision, imagededup and cleanlab do with the same files; runs in the environment that
benchmarks.cleaning makes.

python rivals/cleaning.py cleanvision|imagededup FOLDER      prints seconds, images and the groups
or pairs found, as JSON python rivals/cleaning.py cleanlab FILE.npz                  prints the
positions it calls label issues, as JSON
"""

import contextlib
import importlib
import importlib.util
import io
import json
import sys
import time
import types
from pathlib import Path


def cleanvision(folder):
    from cleanvision import Imagelab

    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(data_path=folder)
        lab.find_issues(n_jobs=2, verbose=False)
    sets = [
        group
        for kind in ("exact_duplicates", "near_duplicates")
        for group in lab.info[kind]["sets"]
    ]
    return {"seconds": time.perf_counter() - began, "images": len(lab.issues), "groups": sets}


def imagededup(folder):
    # Its packages import torch for a network that is not used here; its hashes need none.
    place = Path(importlib.util.find_spec("imagededup").origin).parent
    for name in ("methods", "utils"):
        package = types.ModuleType(f"imagededup.{name}")
        package.__path__ = [str(place / name)]
        sys.modules[package.__name__] = package
    hashing = importlib.import_module("imagededup.methods.hashing")
    method = hashing.PHash(verbose=False)
    began = time.perf_counter()
    encodings = method.encode_images(image_dir=folder, recursive=True, num_enc_workers=2)
    seconds = time.perf_counter() - began
    found = method.find_duplicates(
        encoding_map=encodings, max_distance_threshold=10, num_dist_workers=0
    )
    pairs = [[one, other] for one, others in found.items() for other in others]
    return {"seconds": seconds, "images": len(encodings), "groups": pairs}


def cleanlab(file):
    import numpy as np
    from cleanlab.filter import find_label_issues

    stored = np.load(file)
    mask = find_label_issues(
        stored["labels"], stored["probabilities"], filter_by="confident_learning", n_jobs=1
    )
    return {"issues": np.flatnonzero(mask).tolist()}


if __name__ == "__main__":
    print(
        json.dumps(
            {"cleanvision": cleanvision, "imagededup": imagededup, "cleanlab": cleanlab}[
                sys.argv[1]
            ](sys.argv[2])
        )
    )
