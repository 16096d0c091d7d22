"""The commands of competitive analysis."""
