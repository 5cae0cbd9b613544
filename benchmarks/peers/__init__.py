"""The quickstart's data through other libraries; each `*_script.py` is what their tutorials write.

`python SCRIPT FOLDER EPOCHS` trains on `train/` and `val/` of the folder, a folder a class, and
writes `predictions.csv` (file, label) of `test/` into the current folder.
"""
