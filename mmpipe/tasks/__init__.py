"""One file a task: head, losses, decoding, metrics, answers."""
