"""Runs seen and steered from other processes of the same user, over Unix sockets."""
