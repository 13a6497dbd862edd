"""What people read: formulations and results as text."""
