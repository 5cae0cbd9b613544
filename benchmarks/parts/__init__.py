"""What several benchmarks share, and our side of the training ones; nothing here is a benchmark of
its own.
"""
