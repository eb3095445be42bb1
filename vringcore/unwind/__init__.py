"""Who called whom: the frames of a stack, from unwind tables as the process had them in memory."""
