"""From RGB-D windows to parts, joints and joint states."""
