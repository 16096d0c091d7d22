"""Measure real models into a profile: pretrain, measure, run the real loop, fit the learning curve."""

import orric.retraining  # noqa: F401  (says which extra is missing)
