"""Importers of public traces."""
