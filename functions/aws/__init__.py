"""The entry points for AWS Lambda: one module per function, initialized when Lambda imports it."""
