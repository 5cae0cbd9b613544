"""Fitting a model to the train split, watched on the validation split."""
