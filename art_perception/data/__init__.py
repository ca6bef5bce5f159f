"""Objects with known joints and simulated RGB-D clips of them."""
