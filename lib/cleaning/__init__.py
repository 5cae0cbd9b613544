"""Findings about raw files, and what follows from them. Nothing is ever moved or deleted."""
