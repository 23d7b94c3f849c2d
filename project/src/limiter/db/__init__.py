"""What is remembered, in Postgres, one file each; the tables are in `tables`."""
