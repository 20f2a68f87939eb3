"""The stateless side: one module an entry point, the same code as a Lambda handler and under uvicorn."""
