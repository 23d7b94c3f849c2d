"""What is remembered, in Postgres; SQL lives only here."""
