"""Formulations and results as text, tables and plots."""
