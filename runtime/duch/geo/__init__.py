"""Scenes: rasters of any size with a place on the map, cut into chips while they are read.

Needs the extra `geo`: rasterio reads scenes, shapely compares areas, pystac reads STAC. Nothing here is imported until
a scene is at hand, and none of it opens a network connection.
"""
