"""The demo: two replicas on real servers, seven users, and a check of what happened to each."""
