"""Contract suites, leak checks and fault injection, for our tests and for third parties'."""
