"""Pricing: the best pattern at given prices, and bounds over all patterns."""
