"""Settings: what may be set, from where, and whether anything runs at all (the gate, DESIGN §2)."""
