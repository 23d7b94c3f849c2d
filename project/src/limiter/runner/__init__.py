"""One runner per job: lock, guard, claims, the fenced run, the scheduler; docs/locking.md is the protocol."""
