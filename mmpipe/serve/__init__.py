"""The model over HTTP: routes on top, then the way of one request, then its uploads, decoders and batches."""
