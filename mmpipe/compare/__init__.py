"""What differs between two versions of a model: parameters, data, metrics, predictions, code."""
