"""Built-in aerial scenes with captions: a dataset for trying the whole line with nothing to download.

Twenty kinds of scenes are painted from above with Pillow; five captions a scene are derived from the facts of what was
painted. `write_scenes` leaves a dataset of the same form as a user's own.

    canvas                             units, season, textures, shadows, Facts
    props                              trees, houses, planes, boats, roads
    clutter                            what surrounds a subject
    transport, shores, land, town      the painters
    painters                           class -> painter
    grammar                            numbers, nouns, clutter in words
    phrases_open, phrases_built        facts of a class -> phrases
    captions                           phrases -> five sentences
    write                              one scene; a dataset on disk
    mosaic                             a dataset as one raster on the map
"""

from duch_training.scenes.mosaic import write_mosaic
from duch_training.scenes.painters import CLASSES
from duch_training.scenes.write import Scene, draw_scene, write_scenes

__all__ = ["CLASSES", "Scene", "draw_scene", "write_mosaic", "write_scenes"]
