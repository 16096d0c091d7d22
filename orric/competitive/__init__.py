"""Competitive analysis: the offline optimum as an interval, proved bounds, and the search for worst cases."""
