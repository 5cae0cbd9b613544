"""The colours of classes on a map, on paper and on the site alike, chosen so that the colour-blind
can tell them apart.
"""

PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#56B4E9",
    "#E69F00",
    "#CC79A7",
    "#5F4B8B",
    "#8C564B",
    "#7A8B00",
    "#B5172F",
)
"""The most frequent classes get one each. After Okabe and Ito, Color Universal Design (2008), and
three more. Their pink comes late: without red or green in the eye it is a grey like that of their
green.
"""

REST = "#C3CAD1"
"""All other classes."""

SEQUENCE = (
    "#440154",
    "#482475",
    "#414487",
    "#355F8D",
    "#2A788E",
    "#21918C",
    "#22A884",
    "#44BF70",
    "#7AD151",
    "#BDDF26",
    "#FDE725",
)
"""For numbers, dark to light: viridis, whose lightness grows evenly."""
