"""Descriptors, system calls and time: everything that touches the kernel."""
