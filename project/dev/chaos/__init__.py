"""The fault suite: a workload, a nemesis that breaks what it runs on, and a checker of what was recorded."""
