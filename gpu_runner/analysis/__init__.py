"""Analysis of recordings on the CPU: speech, noise, words, speakers. The packages with models are optional."""
