"""One format, written by the service and read by the replay."""
