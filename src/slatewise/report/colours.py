"""Colours and dashes of the curves in plots; they work on light and dark backgrounds."""

from __future__ import annotations

# distinguishable for colour-blind readers, each with a contrast of at least 3 : 1 to white and to the dark page
COLOURS = ("#2b7bd4", "#d0632a", "#2a9567", "#a855a0", "#9a7b12", "#c8485f", "#5c7f92", "#7b6fe0")
DASHES = ("solid", "dash", "dot", "dashdot")
DETAILED = COLOURS[1]
"""Of the run that a page looks at closely."""
REFERENCE = "#7f8894"
"""Of whiskers and of lines to compare with."""
