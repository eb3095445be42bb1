"""The oracle: gdb's reading of a core. Runs inside gdb and imports nothing of vringcore."""
