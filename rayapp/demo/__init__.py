"""The demo's data: real photographs, and the same crops passed through tiny generators."""
