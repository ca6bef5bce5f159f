"""Lie algebra, screws, cameras, point operations, meshes and kinematics; no knowledge of sensors or files."""
