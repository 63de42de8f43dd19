"""Menagerie keeps an image classifier right while the world changes."""

import os

__version__ = "0.1.0"

# OpenMP's threads spin while they wait; with another busy process on the machine (and here there always is one: the
# service beside a retraining) a training step then takes ten times as long. Read when torch is loaded, so set here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# OpenBLAS's threads spin as well: a head fitted beside a busy process took five times the processor's time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
