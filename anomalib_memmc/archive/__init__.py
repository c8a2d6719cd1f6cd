"""The commands ``score`` and ``calibrate``: a checkpoint over an archive of images, and over the normals of a place."""
