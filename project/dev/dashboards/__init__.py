"""Runs every query of the Grafana dashboard in a real Prometheus, and compares what it shows with what happened."""
