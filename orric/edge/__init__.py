"""The daemon: serves a student, decides slot by slot, retrains and swaps."""
