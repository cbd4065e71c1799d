"""The command line: `otel-posthog status`, `doctor`, `run`, `explain`, `rules`, `emulator`."""
