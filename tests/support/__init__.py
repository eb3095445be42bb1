"""What vringcore reads of which build, core and debug information: docs/support.md, by tests."""
