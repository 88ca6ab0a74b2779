"""saltseg: find salt bodies in seismic images.

Nothing is imported here, so that ``import saltseg.metrics.rle`` stays as light as numpy.
"""

__version__ = "0.1.0"
