"""Noise: every value of every pixel is disturbed on its own."""

from __future__ import annotations

import numpy as np

from orric.vision.arrays import Images


def gaussian_noise(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Add normal noise of standard deviation `level`."""
    return images + np.float32(level) * rng.standard_normal(images.shape, dtype=np.float32)


def shot_noise(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Count Poisson photons, `level` of them on average where the image is white."""
    return (rng.poisson(images * level) / level).astype(np.float32)


def impulse_noise(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Set a part `level` of the values to 0 or 1, either as likely."""
    drawn = rng.random(images.shape, dtype=np.float32)
    salted = np.where(drawn < level, np.float32(1), images)
    return np.where(drawn < level / 2, np.float32(0), salted)


def speckle_noise(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Add normal noise of a standard deviation of `level` times the value itself."""
    return images * (1 + np.float32(level) * rng.standard_normal(images.shape, dtype=np.float32))
