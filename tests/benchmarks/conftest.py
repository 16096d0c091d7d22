"""What pytest leaves alone here: a file for MLServer's own environment."""

from __future__ import annotations

collect_ignore = ["mlserver_runtime.py"]
