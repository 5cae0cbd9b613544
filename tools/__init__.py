"""Tools for maintainers: release checks, converters, generators. Nothing here is needed to use the
suite.
"""
