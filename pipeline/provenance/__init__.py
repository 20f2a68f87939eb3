"""The origin of generated audio: its signed manifests, and the verification of any audio."""
