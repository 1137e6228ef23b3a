"""Published models: git's annotated tags are the one record of versions and stages."""
