"""The VirtIO specification over any address space; knows nothing of QEMU or ELF."""
