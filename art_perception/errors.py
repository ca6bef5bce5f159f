"""Everything that can go wrong with the input, each with the sentence a user needs.

A message says what was seen, what was expected and what to do. The command line prints it and exits with code 2;
nodes put it in their diagnostics and keep running. Programming errors are never wrapped.
"""


class ArtPerceptionError(Exception):
    """Base of all errors caused by input or environment rather than by a bug."""


class UsageError(ArtPerceptionError):
    """A command line asks for something that does not exist."""


class BagError(ArtPerceptionError):
    """The recording is missing, truncated or lacks a topic."""


class FrameError(ArtPerceptionError):
    """A single image, depth map, camera matrix, mask or pose cannot be used."""


class MotionError(ArtPerceptionError):
    """No articulated object can be recovered: nothing moved, or too little."""


class ObjectError(ArtPerceptionError):
    """A URDF, mesh or asset folder is unusable."""


class OutputError(ArtPerceptionError):
    """The result cannot be written."""


class MissingDependencyError(ArtPerceptionError):
    """An optional library or system package is absent."""


class CheckpointError(ArtPerceptionError):
    """Network weights are missing or belong to another network."""
