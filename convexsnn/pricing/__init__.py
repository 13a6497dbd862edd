"""Pricing: the best pattern of all, and bounds that none exceeds."""
