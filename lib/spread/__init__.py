"""The long passes over a data set, spread over all workers of an engine: reading every file,
features, a model's answers.

They end with the same files as on one machine. Only who computes is another.
"""
