"""The demo: two replicas on real servers, five users, and a check of what happened to each."""
