"""Darkroom: image-classification experiments whose numbers can be believed.

Rooms, from the ground up; each imports only from those before it: `paths` and `runs`, `data`,
`models`, `evaluation`, `cleaning`, `training`, `batch`, and the command line `cli`.
"""
