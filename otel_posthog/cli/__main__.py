"""`python -m otel_posthog.cli`, where the script `otel-posthog` is not on the path."""

import sys

from otel_posthog.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
