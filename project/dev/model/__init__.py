"""The protocol as Promela models, and what spin is to say of them."""
