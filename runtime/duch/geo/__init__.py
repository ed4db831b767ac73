"""Scenes: rasters of any size with a place on the map, cut into chips while they are read.

Needs the extra `geo`: rasterio reads scenes, shapely compares areas, pystac reads STAC. Nothing here is imported until
a scene is at hand, and none of it opens a network connection.

To that end `gdal`, through which all of it reaches GDAL, has effects on the whole process when it is imported: it takes
away GDAL's drivers that open connections, sets PROJ_NETWORK=OFF, and listens at Python's hooks for uncaught errors to
those that rasterio loses. A program that uses rasterio before has its drivers, and VRT scenes are refused there.
"""
