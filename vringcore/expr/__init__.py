"""C expressions over a core: parsed, evaluated and printed as gdb does."""
