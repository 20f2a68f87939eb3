"""The entry points as AWS Lambda calls them: one module a function, each wired when Lambda imports it."""
