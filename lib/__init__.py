"""Darkroom: reproducible image-classification experiments in Keras.

Each package imports only from those before it: `runs`, `data`, `models`, `evaluation`, `reporting`,
`cleaning`, `training`, `batch`, `tuning`, `baselines`, `explain`, `embeddings`, `apply`, `web` and
the command line `cli`. `lib.api` lists the public names.
"""
