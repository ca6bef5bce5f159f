"""RGB-D video of a moving articulated object in, URDF and live joint states out."""

__version__ = "0.1.0"
