"""The records of a table, one format a module: a bad line is put aside, and few rows are held at a time."""
