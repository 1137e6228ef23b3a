"""Writing down what is said: units of text, a language model over them, decoding, error rates."""
