"""Metrics for Prometheus, made from the scoreboard at scrape; one module per subject."""
