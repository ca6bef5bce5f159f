"""RGB-D video of a moving articulated object in, URDF and live joint states out."""

import os

__version__ = "0.1.0"

# Before numpy and torch are imported: on our many small matrices their threads wait for each other, and on a robot's
# busy processor they take two to four times the time. Set OMP_NUM_THREADS to have them anyway.
os.environ.setdefault("OMP_NUM_THREADS", "1")
