"""Published models: git tags say which, DVC brings them."""
