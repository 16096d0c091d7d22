"""Real images and real networks: data sets, corruptions, networks, their export and their cost."""
