"""The in-process edge: OpenTelemetry SDK objects in, Signals to the bridge. Callbacks run in the user's request.

Imports nothing by itself: `processor`, `exporter`, `sampler` are what people use, the rest is behind them.
"""
