"""vringcore: what a QEMU process's virtio queues were doing, from its core dump alone."""
