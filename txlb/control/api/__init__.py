"""The admin API (`GET /health`, `GET /metrics`). Import `app` and `site` lazily: Klein installs a reactor."""
