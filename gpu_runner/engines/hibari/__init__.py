"""An English stock voice that is adapted to a reference: `hibari-tts`, without a download and without torch.

It is not a clone. The pitch, the length of the vocal tract and the long-term spectrum of the reference are measured
and applied to the one voice of the package. Accent, rhythm and manner of speaking stay those of the stock voice.
"""
