"""Parts that every training shares: budget, start, score, history, checkpoint and the folder of a result."""
