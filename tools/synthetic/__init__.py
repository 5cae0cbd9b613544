"""A data set drawn by us: five kinds of document images, and faults whose truth is known.

Free of rights, so that its pictures may be shown anywhere; a painter, a photographer and a
draughtsman look at the same procedural scenes, and pages, plans and sketches share paper and
scanner, so that no cheap trait tells the kinds apart.
"""

from .files import TRUTH, draw
from .kinds import KINDS, SIDES, Picture, drawn, picture

__all__ = ["KINDS", "SIDES", "TRUTH", "Picture", "draw", "drawn", "picture"]
