"""Writing and validating URDF."""
