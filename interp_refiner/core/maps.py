"""The maps of a maze, in the order in which ``Clip.context`` holds them."""

COUNT = 4
WALLS, DISTANCE, START, GOAL = range(COUNT)
"""1 in walls; signed distance to the nearest cell of the other kind in cells, positive where free; 1 in the cell of the
start; 1 in that of the goal."""
