"""Report page and web viewer."""
