"""The numeric core: pure functions on numpy arrays; no torch, no pandas, imported in milliseconds."""
