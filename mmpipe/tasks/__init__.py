"""One file a task: head, loss, decoding, metrics."""
