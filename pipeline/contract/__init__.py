"""The data formats that all processes share: records, storage keys, expiry times, and events."""
