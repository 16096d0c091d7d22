"""Figures and one self-contained page about what allocators did."""
