"""`make bench`: what each part of the work costs beside its peers, and what the service costs, seen from outside."""
