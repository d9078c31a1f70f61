"""The report of runs as one HTML page: read, grouped by their settings, drawn, written.

`runs` finds and groups them, `series` reads their rows in bounded memory, `curves` joins seeds,
`evaluations` and `comparisons` make tables, `charts` and `maps` draw, `page` puts it together.
"""
